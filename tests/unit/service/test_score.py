from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlgov.errors import GuardRefusedError
from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.score import model_in_use


@pytest.fixture
def promoted(candidate):
    candidate.approve(candidate.ask())
    promote(candidate.gov, candidate.registry, candidate.use())
    return candidate


def use_model(world):
    return model_in_use(world.gov, world.registry, world.use("score"))


def refused_check(world) -> str:
    with pytest.raises(GuardRefusedError) as caught, use_model(world):
        pytest.fail("the function must not run")
    assert world.kinds("guard.refused")[-1].body["check"] == caught.value.check
    assert world.kinds("model.scored") == []
    return caught.value.check


def test_hands_out_the_verified_bytes_and_notes_the_use(promoted):
    with use_model(promoted) as model:
        assert hash_directory(model.path).digest == promoted.version == model.version
        path = model.path
    assert not path.exists()
    assert promoted.kinds("model.scored")[0].version == promoted.version


def test_what_is_changed_after_the_check_is_not_what_is_used(promoted):
    with use_model(promoted) as model:
        (promoted.registry.folder("retail_pd", "1") / "scorecard.json").write_text("swapped")
        assert "swapped" not in (model.path / "scorecard.json").read_text()


def test_one_changed_byte_is_refused(promoted):
    file = promoted.registry.folder("retail_pd", "1") / "scorecard.json"
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    assert refused_check(promoted) == "digest"


def test_no_alias(candidate):
    assert refused_check(candidate) == "registry.not_found"


def test_an_alias_moved_by_hand_to_an_unapproved_version(promoted):
    promoted.train('{"points": [7]}')
    promoted.registry.aliases["retail_pd", "champion"] = "2"
    assert refused_check(promoted) == "approval"


def test_approved_but_moved_by_hand_without_promotion(candidate):
    candidate.approve(candidate.ask())
    candidate.registry.aliases["retail_pd", "champion"] = "1"
    assert refused_check(candidate) == "promotion"


def test_an_alias_moved_back_by_hand_to_an_earlier_version(promoted):
    promoted.train('{"points": [7]}', run_id="run-2")
    promoted.validate_model(note="second")
    from airflow_mlgov.records.source import Source

    promoted.approve(promoted.ask(source=Source("retail_pd", "run-2", "gate", -1, 1)))
    promote(promoted.gov, promoted.registry, promoted.use(run_id="run-2"))
    promoted.registry.aliases["retail_pd", "champion"] = "1"
    assert refused_check(promoted) == "alias"


def test_a_version_that_nobody_registered_with_us(promoted):
    promoted.registry.held[0] = replace(promoted.registry.held[0], manifest=None)
    assert refused_check(promoted) == "registration"


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.WARN])
def test_below_enforce_a_failed_check_is_recorded_and_the_task_runs(promoted, mode, caplog):
    promoted.with_inventory(mode=mode)
    (promoted.registry.folder("retail_pd", "1") / "scorecard.json").write_text("{}")
    with use_model(promoted) as model:
        assert model.version is None
    assert promoted.kinds("guard.refused")[-1].body["check"] == "digest"
    assert ("Mode warn" in caplog.text) == (mode is Mode.WARN)


def test_an_alias_set_by_hand_that_nobody_promoted(candidate):
    candidate.approve(candidate.ask())
    use = replace(candidate.use(), alias="shadow")
    promote(candidate.gov, candidate.registry, use)
    candidate.registry.aliases["retail_pd", "champion"] = "1"
    assert refused_check(candidate) == "alias"


def test_a_function_that_fails_has_used_the_model_all_the_same(promoted):
    with pytest.raises(RuntimeError), use_model(promoted):
        raise RuntimeError
    assert len(promoted.kinds("model.scored")) == 1


def test_an_unknown_model_is_a_refusal_on_record(promoted):
    del promoted.gov.inventory["retail_pd"]
    assert refused_check(promoted) == "configuration"
