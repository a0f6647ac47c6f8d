from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest

from airflow_mlgov.errors import (
    ApprovalDeniedError,
    ArtefactError,
    GuardRefusedError,
    LedgerUnavailableError,
    RegistryError,
    RegistryUnavailableError,
)
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import Use
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.promote import promote
from tests.unit.service.conftest import FolderRegistry


@pytest.fixture
def approved(candidate):
    candidate.approve(candidate.ask())
    return candidate


def run_promotion(world, use: Use | None = None, version=None):
    return promote(world.gov, world.registry, use or world.use(), version)


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
    retry = Use(
        "retail_pd", "production", Source("retail_pd", "run-1", "promote", -1, 2), "champion"
    )
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


def test_a_pack_of_the_dag_authors_own_is_not_vouched_for(candidate):
    """A task can keep any pack as evidence and name it; only the pack in force can vouch for it."""
    own = candidate.gov.packs["retail_credit"]
    candidate.with_pack("users: [olivia]", "users: [mallory]")
    candidate.with_pack("users: [victor, erin]", "users: [trent, erin]")
    candidate.validate_model()
    request = candidate.ask()
    candidate.answer(request, "mallory")
    candidate.answer(request, "trent")
    candidate.gov.packs["retail_credit"] = own
    assert refused_check(candidate) == "policy"


def test_an_approval_under_weaker_assurance_does_not_outlive_the_pack(approved):
    approved.with_pack("least_assurance: L1", "least_assurance: L2")
    assert refused_check(approved) == "policy"


def test_a_superseded_pack_is_vouched_for_by_the_one_in_force(approved):
    earlier = approved.gov.packs["retail_credit"].digest
    keeps = f"existing_approvals: keep\nsupersedes: ['{earlier}']"
    approved.with_pack("users: [olivia]", "users: [oscar]")
    approved.with_pack("existing_approvals: keep", keeps)
    run_promotion(approved)


def test_seats_that_changed_hands_end_what_nobody_vouches_for(approved):
    approved.with_pack("users: [olivia]", "users: [oscar]")
    assert refused_check(approved) == "policy"


def test_a_second_entry_for_the_request_takes_no_segregation_away(candidate):
    """The author repeats her request without naming herself, and votes for it."""
    candidate.with_inventory(developers=("nina",))
    candidate.train(by=None, content='{"points": [5]}')
    candidate.validate_model()
    request = candidate.ask()
    body = candidate.kinds("approval.requested")[-1].body
    candidate.entry("approval.requested", body, version=candidate.version)
    candidate.answer(request, "olivia")
    candidate.answer(request, "erin")
    assert refused_check(candidate) == "approval"


def test_who_becomes_a_developer_of_the_model_no_longer_counts(approved):
    approved.with_inventory(developers=("erin", "victor"))
    assert refused_check(approved) == "approval"


def test_who_trained_this_version_does_not_count(candidate):
    from airflow_mlgov.records.people import Person

    candidate.train(run_id="run-0", by=Person("victor", "victor"))
    candidate.validate_model()
    candidate.approve(candidate.ask())
    assert refused_check(candidate) == "approval"


def test_who_trained_the_same_bytes_after_the_request_still_counts(candidate):
    from airflow_mlgov.records.people import Person

    request = candidate.ask()
    candidate.train(run_id="run-2", by=Person("victor", "victor"))
    assert candidate.approve(request).decision is Decision.GRANTED


def forget(world, kind: str, index: int = 0) -> None:
    """Take away what opens the names and texts of an entry, as erasing or an intruder would."""
    key = world.kinds(kind)[index].key
    with sqlite3.connect(world.gov.ledger._store.path) as database:
        database.execute("DELETE FROM disclosures WHERE key = ?", (key,))


def test_a_rejection_holds_when_the_name_under_it_is_gone(candidate):
    request = candidate.ask()
    with pytest.raises(ApprovalDeniedError):
        candidate.answer(request, "victor", Choice.REJECT)
    forget(candidate, "approval.voted")
    with pytest.raises(ApprovalDeniedError):
        candidate.approve(request)
    assert refused_check(candidate) == "approval"


@pytest.mark.parametrize("kind", ["approval.voted", "approval.requested", "model.trained"])
def test_an_approval_does_not_hold_when_a_name_under_it_is_gone(approved, kind):
    forget(approved, kind)
    assert refused_check(approved) == "approval"


@pytest.mark.parametrize("kind", ["approval.voted", "approval.requested", "model.trained"])
def test_an_approval_does_not_hold_when_a_name_under_it_was_altered(approved, kind):
    key = approved.kinds(kind)[0].key
    with sqlite3.connect(approved.gov.ledger._store.path) as database:
        database.execute("UPDATE disclosures SET salt = zeroblob(32) WHERE key = ?", (key,))
    assert refused_check(approved) == "approval"


def test_a_promotion_that_was_replaced_since_is_not_repeated(approved):
    run_promotion(approved)
    approved.train('{"points": [8]}', run_id="run-2")
    approved.validate_model()
    approved.approve(approved.ask(source=Source("retail_pd", "run-2", "gate", -1, 1)))
    run_promotion(approved, approved.use(run_id="run-2"))
    with pytest.raises(GuardRefusedError, match="moved on since"):
        run_promotion(approved)
    assert approved.registry.aliases["retail_pd", "champion"] == "2"


def test_the_newest_promotion_may_be_repeated(approved):
    run_promotion(approved)
    run_promotion(approved)
    assert len(approved.kinds("model.promoted")) == 1


def test_another_alias_needs_another_approval(approved):
    run_promotion(approved)
    other = Use("retail_pd", "production", approved.use().source, "shadow")
    with pytest.raises(GuardRefusedError, match="used already"):
        run_promotion(approved, other)


def test_a_rejected_run_does_not_promote_on_another_runs_approval(candidate):
    candidate.train(run_id="run-2")
    with pytest.raises(ApprovalDeniedError):
        candidate.answer(candidate.ask(), "victor", Choice.REJECT)
    candidate.approve(candidate.ask(source=Source("retail_pd", "run-2", "gate", -1, 1)))
    assert refused_check(candidate) == "approval"
    run_promotion(candidate, candidate.use(run_id="run-2"))


def test_a_run_uses_its_own_approval_and_leaves_the_others(approved):
    approved.train(run_id="run-2")
    approved.approve(approved.ask(source=Source("retail_pd", "run-2", "gate", -1, 1)))
    run_promotion(approved)
    run_promotion(approved, approved.use(run_id="run-2"))
    used = {entry.body["request_sha256"] for entry in approved.kinds("approval.consumed")}
    assert len(used) == 2


def test_a_high_finding_opened_after_the_approval_blocks(approved):
    approved.open_finding("high")
    assert refused_check(approved) == "findings"


def test_an_invented_use_does_not_use_the_approval_up(approved):
    request = approved.kinds("approval.requested")[0].body["request_sha256"]
    use = {"dag_id": "x", "run_id": "y", "task_id": "z", "map_index": -1}
    body = {"request_sha256": request, "target": "production", "use": use}
    approved.entry("approval.consumed", body, version=approved.version)
    run_promotion(approved)


def test_a_request_that_cannot_be_read_stops_nobody_else(approved, caplog):
    good = approved.kinds("approval.requested")[0].body
    bad = {**good, "request": {"v": 1}, "request_sha256": "sha256:" + "7" * 64}
    approved.entry("approval.requested", bad, version=approved.version)
    run_promotion(approved)
    assert "left out" in caplog.text


def test_a_store_that_goes_away_while_votes_are_counted_refuses_nobody(approved, monkeypatch):
    def gone(key):
        raise LedgerUnavailableError("gone")

    monkeypatch.setattr(approved.gov.ledger._store, "disclosures", gone)
    approved.gov.ledger._viewed = None  # another process, which has read no name yet
    with pytest.raises(LedgerUnavailableError):
        run_promotion(approved)
    monkeypatch.undo()
    approved.gov.ledger._viewed = None
    assert approved.kinds("guard.refused") == []
    run_promotion(approved)


def test_a_refusal_with_hostile_words_is_on_record(candidate):
    use = candidate.use(target="e\u0301\ud800" + "x" * 20_000)
    assert refused_check(candidate, use, candidate.version) == "approval"


def test_files_that_the_registry_itself_refuses_are_a_refusal_on_record(approved, monkeypatch):
    def fetch(version, into):
        raise ArtefactError("it holds a link")

    monkeypatch.setattr(approved.registry, "fetch", fetch)
    assert refused_check(approved) == "digest"


def test_only_the_dags_that_the_inventory_lets_may_promote(candidate):
    candidate.approve(candidate.ask())
    candidate.with_inventory(promoted_by=("other", "more"))
    with pytest.raises(GuardRefusedError, match="these: other, more") as caught:
        promote(candidate.gov, candidate.registry, candidate.use())
    assert caught.value.check == "dag"
    candidate.with_inventory(promoted_by=("other", "retail_pd"))
    assert promote(candidate.gov, candidate.registry, candidate.use()).version


class TestSeveralRegistries:
    """All or nothing, with a plain account when one fails."""

    @pytest.fixture
    def others(self, tmp_path):
        return [FolderRegistry(tmp_path / name, f"folder://{name}") for name in ("paris", "bonn")]

    def promote(self, world, others, **use):
        return promote(world.gov, world.registry, world.use(**use), also=others)

    def alias(self, registry):
        return registry.aliases.get(("retail_pd", "champion"))

    def test_the_alias_moves_everywhere_and_each_move_is_on_record(self, approved, others):
        promotion = self.promote(approved, others)
        assert [place.namespace for place in (promotion.version, *promotion.also)] == [
            "folder://registry", "folder://paris", "folder://bonn",
        ]  # fmt: skip
        for registry in (approved.registry, *others):
            assert registry.by_alias("retail_pd", "champion").manifest == approved.version
        entries = approved.gov.ledger.view().select("model.promoted")
        assert [entry.body["namespace"] for entry in entries] == [
            "folder://registry", "folder://paris", "folder://bonn",
        ]  # fmt: skip
        assert len(approved.gov.ledger.view().select("approval.consumed")) == 1

    @pytest.mark.parametrize("error", [RegistryUnavailableError("gone"), RegistryError("no")])
    def test_where_one_fails_the_others_are_put_back(self, approved, others, error):
        others[1].fail_next_alias = error
        with pytest.raises(RegistryError) as caught:
            self.promote(approved, others)
        said = str(caught.value)
        assert caught.value.retryable is error.retryable
        assert "folder://bonn/retail_pd/1 failed" in said
        assert "folder://paris/retail_pd/1 was moved and put back" in said
        assert [self.alias(each) for each in (approved.registry, *others)] == [None, None, None]
        assert not approved.gov.ledger.view().select("model.promoted")
        self.promote(approved, others)  # the same task, cleared
        assert [self.alias(each) for each in (approved.registry, *others)] == ["1", "1", "1"]

    def test_what_stood_there_before_is_put_back(self, approved, others):
        self.promote(approved, others)
        approved.train('{"points": [3]}', run_id="run-2")
        approved.validate_model("again")
        approved.approve(approved.ask(source=Source("retail_pd", "run-2", "gate", -1, 1)))
        others[1].fail_next_alias = RegistryUnavailableError("gone")
        with pytest.raises(RegistryUnavailableError):
            self.promote(approved, others, run_id="run-2")
        assert [self.alias(each) for each in (approved.registry, *others)] == ["1", "1", "1"]

    def test_what_cannot_be_put_back_is_said(self, approved, others, monkeypatch):
        def stuck(version, alias):
            raise RegistryUnavailableError("gone too")

        others[1].fail_next_alias = RegistryUnavailableError("gone")
        monkeypatch.setattr(others[0], "unset_alias", stuck)
        with pytest.raises(RegistryUnavailableError, match="could not be put back"):
            self.promote(approved, others)

    def test_what_was_not_tried_is_said(self, approved, others):
        others[0].fail_next_alias = RegistryUnavailableError("gone")
        with pytest.raises(RegistryUnavailableError, match="bonn/retail_pd/1 was not tried"):
            self.promote(approved, others)

    def test_a_copy_that_was_altered_elsewhere_stops_all(self, approved, others):
        manifest = hash_directory(approved.model_dir)
        others[0].register("retail_pd", approved.model_dir, manifest, {})
        (others[0].folder("retail_pd", "1") / "extra").write_text("x")
        with pytest.raises(GuardRefusedError, match="digest"):
            self.promote(approved, others)
        assert self.alias(approved.registry) is None
