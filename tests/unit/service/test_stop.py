from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    GuardRefusedError,
    LedgerIntegrityError,
    NotEntitledError,
    NotInForceError,
    UnknownSubjectError,
)
from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service import stop as stop_module
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.score import model_in_use
from airflow_mlgov.service.stop import (
    is_revoked,
    resume_model,
    revoke_approval,
    stop_in_force,
    stop_model,
)
from airflow_mlgov.signers.file import open_signers

ZOE = Person("zoe", "Zoe Surname")
VICTOR = Person("victor", "Victor Surname")
OLIVIA = Person("olivia", "Olivia Surname")


@pytest.fixture
def approved(candidate):
    candidate.request = candidate.ask()
    candidate.approve(candidate.request)
    return candidate


@pytest.fixture
def promoted(approved):
    promote(approved.gov, approved.registry, approved.use())
    return approved


def score(world, target="production"):
    use = world.use("score", target=target)
    with model_in_use(world.gov, world.registry, use) as model:
        return model


def refused(world, act, *more) -> str:
    with pytest.raises(GuardRefusedError) as caught:
        act(world, *more)
    assert world.kinds("guard.refused")[-1].body["check"] == caught.value.check
    return caught.value.check


def promote_again(world, run_id="run-1"):
    promote(world.gov, world.registry, world.use(run_id=run_id))


def stop(world, reason="it scores nonsense"):
    return stop_model(world.gov, "retail_pd", reason, ZOE)


def test_a_stop_closes_promotion_and_a_resumption_opens_it(approved):
    stop(approved)
    assert refused(approved, promote_again) == "stopped"
    assert approved.registry.aliases == {}
    assert approved.kinds("approval.consumed") == []
    resume_model(approved.gov, "retail_pd", "it was the data", VICTOR)
    promote_again(approved)
    assert approved.registry.aliases == {("retail_pd", "champion"): "1"}


def test_a_stop_closes_scoring_and_a_resumption_opens_it(promoted):
    stop(promoted)
    assert refused(promoted, score) == "stopped"
    resume_model(promoted.gov, "retail_pd", "it was the data", OLIVIA)
    assert score(promoted).version == promoted.version


def test_a_stop_closes_every_target_and_every_version(promoted):
    stop(promoted)
    assert refused(promoted, score, "staging") == "stopped"
    promoted.train('{"points": [7]}', run_id="run-2")
    promoted.validate_model(note="second")
    promoted.approve(promoted.ask(source=Source("retail_pd", "run-2", "gate", -1, 1)))
    assert refused(promoted, promote_again, "run-2") == "stopped"


def test_a_stop_of_another_model_closes_nothing(promoted):
    promoted.gov.inventory["other"] = promoted.gov.inventory["retail_pd"]
    stop_model(promoted.gov, "other", "it scores nonsense", ZOE)
    assert score(promoted).version == promoted.version


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.WARN])
def test_no_mode_lets_a_stopped_model_run(promoted, mode):
    promoted.with_inventory(mode=mode)
    stop(promoted)
    assert refused(promoted, score) == "stopped"


def test_a_stop_comes_before_whatever_else_a_mode_lets_pass(promoted):
    """A version without a manifest is refused too, but not in mode observe."""
    promoted.with_inventory(mode=Mode.OBSERVE)
    promoted.registry.held[0] = replace(promoted.registry.held[0], manifest=None)
    assert score(promoted).version is None
    stop(promoted)
    assert refused(promoted, score) == "stopped"


def test_a_refusal_names_nobody(promoted):
    stop(promoted, "Zoe Surname saw it")
    with pytest.raises(GuardRefusedError) as caught:
        score(promoted)
    assert "Zoe" not in str(caught.value)


def test_a_stop_after_a_resumption_counts(promoted):
    stop(promoted)
    resume_model(promoted.gov, "retail_pd", "it was the data", VICTOR)
    stop(promoted)
    assert refused(promoted, score) == "stopped"


def test_one_resumption_undoes_all_the_stops_that_were_on_record(promoted):
    stop(promoted)
    stop(promoted)
    assert len(promoted.kinds("model.stopped")) == 2
    resume_model(promoted.gov, "retail_pd", "it was the data", VICTOR)
    assert stop_in_force(promoted.gov.ledger.view(), "retail_pd") is None


def test_a_stop_that_came_in_before_the_resumption_was_written_stays(promoted, monkeypatch):
    stop(promoted)
    real = stop_module.stop_in_force

    def then_another(view, model):
        seen = real(view, model)
        stop(promoted, "another reason")
        return seen

    monkeypatch.setattr(stop_module, "stop_in_force", then_another)
    resume_model(promoted.gov, "retail_pd", "it was the data", VICTOR)
    assert [e.kind for e in promoted.kinds("model.stopped", "model.resumed")] == [
        "model.stopped",
        "model.stopped",
        "model.resumed",
    ]
    assert refused(promoted, score) == "stopped"


def test_names_and_reasons_are_no_part_of_the_leaf(promoted):
    stop(promoted)
    (entry,) = promoted.kinds("model.stopped")
    assert (entry.body, entry.person("stopped_by")) == ({}, ZOE)
    assert (entry.text("reason"), entry.signed_by) == ("it scores nonsense", KeyRole.WRITER)
    resume_model(promoted.gov, "retail_pd", "it was the data", VICTOR)
    (entry,) = promoted.kinds("model.resumed")
    assert (entry.person("resumed_by"), entry.text("reason")) == (VICTOR, "it was the data")
    revoke_approval(promoted.gov, promoted.request.digest, "wrong cut-off", VICTOR)
    (entry,) = promoted.kinds("approval.revoked")
    assert entry.body == {"request_sha256": str(promoted.request.digest)}
    assert (entry.person("revoked_by"), entry.text("reason")) == (VICTOR, "wrong cut-off")


def test_a_revoked_approval_cannot_be_used(approved):
    revoke_approval(approved.gov, approved.request.digest, "wrong cut-off", VICTOR)
    assert refused(approved, promote_again) == "revoked"
    assert approved.registry.aliases == {}


def test_a_revoked_approval_ends_the_use(promoted):
    revoke_approval(promoted.gov, promoted.request.digest, "wrong cut-off", VICTOR)
    assert refused(promoted, score) == "revoked"
    assert refused(promoted, promote_again) == "revoked"


def test_votes_do_not_bring_a_revoked_request_back(candidate):
    request = candidate.ask()
    candidate.answer(request, "olivia")
    revoke_approval(candidate.gov, request.digest, "wrong cut-off", OLIVIA)
    candidate.answer(request, "victor")
    assert refused(candidate, promote_again) == "revoked"


def test_a_new_request_stands_beside_a_revoked_one(promoted):
    revoke_approval(promoted.gov, promoted.request.digest, "wrong cut-off", VICTOR)
    gate = Source("retail_pd", "run-2", "gate", -1, 1)
    again = promoted.ask(version=promoted.version, source=gate)
    assert not is_revoked(promoted.gov.ledger.view(), again)
    promoted.approve(again)
    promote_again(promoted, "run-2")
    assert score(promoted).clearance.approval.request == again


@pytest.mark.parametrize("person", [ZOE, Person("erin", "erin")])
def test_whoever_has_no_say_resumes_and_revokes_nothing(promoted, person):
    stop(promoted)
    with pytest.raises(NotEntitledError, match="neither the owner"):
        resume_model(promoted.gov, "retail_pd", "why not", person)
    with pytest.raises(NotEntitledError, match="neither the owner"):
        revoke_approval(promoted.gov, promoted.request.digest, "why not", person)
    assert promoted.kinds("model.resumed", "approval.revoked") == []


def test_a_developer_on_a_seat_has_a_say_only_where_the_pack_lets_developers_sit(promoted):
    erin = Person("erin", "erin")
    assert erin.id in promoted.gov.packs["retail_credit"].users
    promoted.with_pack("developers: true", "developers: false")
    stop(promoted)
    resume_model(promoted.gov, "retail_pd", "it was the data", erin)
    assert stop_in_force(promoted.gov.ledger.view(), "retail_pd") is None


def test_the_owner_has_a_say_without_a_seat(promoted):
    promoted.with_inventory(owner="zoe")
    stop(promoted)
    resume_model(promoted.gov, "retail_pd", "it was the data", ZOE)
    assert score(promoted).version == promoted.version


def test_what_cannot_be_done(promoted):
    gov = promoted.gov
    with pytest.raises(UnknownSubjectError, match="'unknown' is not in the inventory"):
        stop_model(gov, "unknown", "why", ZOE)
    with pytest.raises(UnknownSubjectError, match="'unknown' is not in the inventory"):
        resume_model(gov, "unknown", "why", VICTOR)
    with pytest.raises(UnknownSubjectError, match="holds no request sha256:00"):
        revoke_approval(gov, Digest.parse("sha256:" + "0" * 64), "why", VICTOR)
    with pytest.raises(NotInForceError):
        resume_model(gov, "retail_pd", "why", VICTOR)
    with pytest.raises(ConfigurationError, match="no reason"):
        stop_model(gov, "retail_pd", " \n", ZOE)
    assert promoted.kinds("model.stopped", "model.resumed", "approval.revoked") == []


def test_a_model_that_left_the_inventory_can_be_stopped(promoted):
    promoted.gov.inventory.clear()
    assert stop(promoted).index == promoted.kinds("model.stopped")[0].index


@pytest.mark.parametrize("kind", ["model.resumed", "approval.revoked"])
def test_no_task_resumes_or_revokes(promoted, tmp_path, kind):
    """With the writer's key alone, as a task has it: neither through the service nor past it."""
    stop(promoted)
    (stopped,) = promoted.kinds("model.stopped")
    bodies = {
        "model.resumed": {"stop": stopped.key},
        "approval.revoked": {"request_sha256": str(promoted.request.digest)},
    }
    version = promoted.version if kind == "approval.revoked" else None
    draft = EntryDraft(kind, "retail_pd", version, bodies[kind], ("x",))
    with pytest.raises(LedgerIntegrityError, match="writer key may not sign"):
        promoted.gov.ledger.append(draft)
    signers = open_signers(tmp_path / "keys")
    task = Ledger(
        promoted.gov.ledger._store,
        {KeyRole.WRITER: signers[KeyRole.WRITER]},
        promoted.clock,
        trust=promoted.gov.ledger.trust_root(),
    )
    with pytest.raises(ConfigurationError, match="attestor key"):
        task.append(draft, role=KeyRole.ATTESTOR)
    assert refused(promoted, score) == "stopped"
