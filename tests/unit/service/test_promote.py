from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlgov.errors import GuardRefusedError, RegistryUnavailableError
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.verify_use import Use


@pytest.fixture
def approved(candidate):
    candidate.approve(candidate.ask())
    return candidate


def run_promotion(world, use: Use | None = None, version=None):
    return promote(world.gov, world.registry, use or world.use(), "champion", version)


def refused_check(world, use: Use | None = None, version=None) -> str:
    with pytest.raises(GuardRefusedError) as caught:
        run_promotion(world, use, version)
    last = world.kinds("guard.refused")[-1]
    assert last.body["check"] == caught.value.check
    assert world.registry.aliases.get(("retail_pd", "champion")) is None
    return caught.value.check


def test_moves_the_alias_and_consumes_the_approval(approved):
    promotion = run_promotion(approved)
    assert approved.registry.aliases["retail_pd", "champion"] == promotion.version.version
    assert len(approved.kinds("approval.consumed")) == len(approved.kinds("model.promoted")) == 1


def test_nothing_was_asked(candidate):
    assert refused_check(candidate) == "approval"


def test_seats_are_open(candidate):
    candidate.answer(candidate.ask(), "olivia")
    assert refused_check(candidate) == "approval"
    assert "independent_validator (1 open)" in candidate.kinds("guard.refused")[-1].body["reason"]


def test_rejected(candidate):
    with pytest.raises(Exception, match="rejected"):
        candidate.answer(candidate.ask(), "victor", Choice.REJECT)
    assert refused_check(candidate) == "approval"


def test_a_forged_grant_does_not_help(candidate):
    request = candidate.ask()
    body = {"request_sha256": str(request.digest), "statement": {}}
    candidate.entry("approval.granted", body, version=candidate.version)
    assert refused_check(candidate) == "approval"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda folder: (folder / "scorecard.json").write_text("{}"),
        lambda folder: (folder / ".hidden").write_text("x"),
        lambda folder: (folder / "scorecard.json").rename(folder / "other.json"),
        lambda folder: (folder / "evil.pkl").write_bytes(b"\x80\x04."),
        lambda folder: (folder / "link.json").symlink_to("/etc/passwd"),
    ],
)
def test_changed_files_are_refused(approved, tamper):
    tamper(approved.registry.folder("retail_pd", "1"))
    assert refused_check(approved) == "digest"


def test_another_version_is_not_covered(approved):
    other = approved.train('{"points": [9]}')
    assert refused_check(approved, version=other) == "approval"


def test_another_target_is_not_covered(approved):
    assert refused_check(approved, approved.use(target="staging"), approved.version) == "approval"


def test_an_expired_approval_is_refused(approved):
    approved.clock.moment += timedelta(days=365)
    assert refused_check(approved) == "expiry"


def test_the_last_moment_still_holds(approved):
    approved.clock.moment += timedelta(days=365) - timedelta(seconds=1)
    run_promotion(approved)


def test_a_new_pack_that_ends_approvals(approved):
    approved.with_pack("existing_approvals: keep", "existing_approvals: end")
    assert refused_check(approved) == "policy"


def test_a_new_pack_that_keeps_approvals(approved):
    approved.with_pack("valid_days: 365", "valid_days: 364")
    run_promotion(approved)


def test_an_approval_is_used_once(approved):
    run_promotion(approved)
    del approved.registry.aliases["retail_pd", "champion"]
    assert refused_check(approved, approved.use(run_id="run-2"), approved.version) == "consumed"
    assert refused_check(approved, approved.use(task_id="promote_again")) == "consumed"


def test_killed_before_the_alias_its_retry_completes_the_same_promotion(approved):
    approved.registry.fail_next_alias = RegistryUnavailableError("gone")
    with pytest.raises(RegistryUnavailableError):
        run_promotion(approved)
    assert approved.kinds("model.promoted") == []
    retry = Use("retail_pd", "production", Source("retail_pd", "run-1", "promote", -1, 2))
    run_promotion(approved, retry)
    assert len(approved.kinds("approval.consumed")) == 1
    assert approved.registry.aliases["retail_pd", "champion"] == "1"


def test_a_second_run_with_its_own_approval_promotes_the_same_version(approved):
    run_promotion(approved)
    approved.train(run_id="run-2")
    gate = Source("retail_pd", "run-2", "gate", -1, 1)
    approved.approve(approved.ask(source=gate))
    run_promotion(approved, approved.use(run_id="run-2"))
    assert len(approved.kinds("approval.consumed")) == 2
