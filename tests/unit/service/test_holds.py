from __future__ import annotations

import pytest

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.holds import all_holds, lift_hold, open_holds, place_hold
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers

LARA = Person("lara", "Lara")


def view(world):
    return world.gov.ledger.view()


def test_a_hold_lasts_until_it_is_lifted(candidate):
    hold = place_hold(candidate.gov, "retail_pd", " a lawsuit ", LARA)
    assert (hold.model, hold.placed_by, hold.reason) == ("retail_pd", "Lara", "a lawsuit")
    assert (hold.placed_at, hold.lifted_at) == (candidate.clock.now(), None)
    assert open_holds(view(candidate)) == [hold]
    assert open_holds(view(candidate), "other") == []
    lifted = lift_hold(candidate.gov, "retail_pd", "settled", LARA)
    assert (lifted.id, lifted.lifted_at) == (hold.id, candidate.clock.now())
    assert open_holds(view(candidate)) == []
    assert all_holds(view(candidate)) == [lifted]


def test_names_and_reasons_are_no_part_of_the_leaf(candidate):
    place_hold(candidate.gov, "retail_pd", "a lawsuit", LARA)
    (entry,) = candidate.kinds("hold.placed")
    assert set(entry.body) == {"hold"}
    assert (entry.person("placed_by"), entry.text("reason")) == (LARA, "a lawsuit")


def test_two_lawsuits_are_two_holds(candidate):
    first, second = (place_hold(candidate.gov, "retail_pd", "one", LARA) for _ in range(2))
    with pytest.raises(ConfigurationError, match=f"several holds: {first.id}, {second.id}"):
        lift_hold(candidate.gov, "retail_pd", "settled", LARA)
    lift_hold(candidate.gov, "retail_pd", "settled", LARA, first.id)
    assert [hold.id for hold in open_holds(view(candidate))] == [second.id]
    with pytest.raises(ConfigurationError, match=f"no hold {first.id}"):
        lift_hold(candidate.gov, "retail_pd", "settled", LARA, first.id)


def test_what_cannot_be_held(candidate):
    with pytest.raises(ConfigurationError, match="'unknown' is not in the inventory"):
        place_hold(candidate.gov, "unknown", "a lawsuit", LARA)
    with pytest.raises(ConfigurationError, match="needs a reason"):
        place_hold(candidate.gov, "retail_pd", " \n", LARA)
    with pytest.raises(ConfigurationError, match="has no hold"):
        lift_hold(candidate.gov, "retail_pd", "settled", LARA)
    assert all_holds(view(candidate)) == []


def test_a_model_that_left_the_inventory_can_be_held(candidate):
    candidate.gov.inventory.clear()
    assert place_hold(candidate.gov, "retail_pd", "a lawsuit", LARA).model == "retail_pd"


def test_no_task_lifts_a_hold(candidate, tmp_path):
    """With the writer's key alone, as a task has it: neither through the service nor past it."""
    hold = place_hold(candidate.gov, "retail_pd", "a lawsuit", LARA)
    draft = EntryDraft("hold.lifted", "retail_pd", None, {"hold": hold.id}, ("x",))
    with pytest.raises(LedgerIntegrityError, match=r"writer key may not sign hold\.lifted"):
        candidate.gov.ledger.append(draft)
    signers = open_signers(tmp_path / "keys")
    task = Ledger(
        candidate.gov.ledger._store,
        {KeyRole.WRITER: signers[KeyRole.WRITER]},
        candidate.clock,
        trust=candidate.gov.ledger.trust_root(),
    )
    with pytest.raises(ConfigurationError, match="attestor key"):
        task.append(draft, role=KeyRole.ATTESTOR)
    assert open_holds(view(candidate)) == [hold]


def test_placing_a_lifted_hold_s_id_again_is_not_a_hold_to_lift_twice(candidate):
    hold = place_hold(candidate.gov, "retail_pd", "a lawsuit", LARA)
    lifted = lift_hold(candidate.gov, "retail_pd", "settled", LARA)
    candidate.entry("hold.placed", {"hold": hold.id}, identity=("again",))
    assert all_holds(view(candidate)) == [lifted]
