from __future__ import annotations

import pytest

from airflow_mlgov.errors import ConfigurationError, EvidenceError, RequestRefusedError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source


def test_freezes_version_evidence_policy_and_target(candidate):
    request = candidate.ask()
    assert request.version == candidate.version
    assert request.policy == candidate.gov.packs["retail_credit"].digest
    assert [kind for kind, _ in request.evidence] == [
        "data.validated",
        "model.trained",
        "model.validated",
    ]
    assert candidate.gov.evidence.get(request.policy) == candidate.gov.packs["retail_credit"].source
    entry = candidate.kinds("approval.requested")[0]
    assert entry.body["request_sha256"] == str(request.digest)
    assert entry.person("requester").id == "erin"


def test_the_same_question_is_the_same_request(candidate):
    assert candidate.ask() == candidate.ask(source=Source("retail_pd", "run-1", "gate", -1, 7))
    assert len(candidate.kinds("approval.requested")) == 1


def test_new_evidence_is_a_new_request(candidate):
    first = candidate.ask()
    candidate.validate_model(note="again")
    assert candidate.ask().digest != first.digest


def test_a_run_without_candidate_asks_nothing(candidate):
    with pytest.raises(RequestRefusedError, match="registered no candidate"):
        candidate.ask(source=Source("retail_pd", "another-run", "gate", -1, 1))
    assert candidate.kinds("approval.requested") == []


def test_missing_validation_is_refused(world):
    world.validate_data()
    world.train()
    with pytest.raises(RequestRefusedError, match=r"lacks evidence .* model\.validated"):
        world.ask()


@pytest.mark.parametrize("passed", [None, False])
def test_training_data_without_a_passed_validation_is_refused(world, passed):
    if passed is not None:
        world.validate_data(passed=passed)
    world.train()
    world.validate_model()
    with pytest.raises(RequestRefusedError, match="no passed validation covers: development"):
        world.ask()


def test_a_high_finding_blocks_and_a_medium_one_does_not(candidate):
    candidate.open_finding("medium")
    candidate.ask()
    candidate.open_finding("high")
    with pytest.raises(RequestRefusedError, match="F-00000001"):
        candidate.ask()


def test_a_validation_under_another_pack_is_refused(candidate):
    candidate.with_pack("valid_days: 365", "valid_days: 30")
    with pytest.raises(RequestRefusedError, match="Validate again"):
        candidate.ask()


def test_evidence_that_was_altered_is_refused(candidate):
    digest = Digest.parse(candidate.kinds("model.validated")[0].body["evidence_sha256"])
    candidate.gov.evidence.documents[digest] += b" "
    with pytest.raises(EvidenceError, match="altered"):
        candidate.ask()


def test_a_target_outside_the_inventory_is_refused(candidate):
    with pytest.raises(ConfigurationError, match="its targets are: production"):
        candidate.ask(target="moon")


def test_an_unknown_model_is_refused(candidate):
    del candidate.gov.inventory["retail_pd"]
    with pytest.raises(ConfigurationError, match="not in the inventory"):
        candidate.ask()


def changes(world) -> list[tuple[str, str | None]]:
    return [
        (entry.body["policy_sha256"], entry.body.get("earlier_sha256"))
        for entry in world.kinds("policy.changed")
    ]


def test_a_pack_with_new_bytes_is_put_on_record_once_with_the_one_before(candidate):
    first = str(candidate.gov.packs["retail_credit"].digest)
    candidate.ask()
    candidate.ask(source=Source("retail_pd", "run-1", "another_gate", -1, 1))
    assert changes(candidate) == [(first, None)]
    candidate.with_pack("valid_days: 365", "valid_days: 90")
    second = str(candidate.gov.packs["retail_credit"].digest)
    candidate.validate_model()
    for task in ("gate", "another_gate"):
        candidate.ask(source=Source("retail_pd", "run-1", task, -1, 1))
    assert changes(candidate) == [(first, None), (second, first)]
    candidate.with_pack("valid_days: 90", "valid_days: 365")
    candidate.validate_model(note="again")
    candidate.ask()
    assert changes(candidate) == [(first, None), (second, first), (first, second)]
