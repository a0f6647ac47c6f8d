"""What Airflow did and the ledger does not have is found; what went by the book is left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_mlgov.errors import (
    ApprovalDeniedError,
    GuardRefusedError,
    LedgerUnavailableError,
    RegistryUnavailableError,
    RequestRefusedError,
    UnknownSubjectError,
)
from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Choice, Severity
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import Step
from airflow_mlgov.service.approvals import Use
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.changes import ManualChange, record_changes
from airflow_mlgov.service.findings import all_findings, high_findings, open_findings
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.reconcile import OVERLAP, Scope, reconcile
from airflow_mlgov.service.score import model_in_use
from airflow_mlgov.service.stop import revoke_approval, stop_model
from airflow_mlgov.service.use_break_glass import Emergency, use_break_glass
from tests.unit.service.conftest import FolderRegistry

OLIVIA, RITA = Person("olivia", "olivia"), Person("rita", "rita")
LATER = timedelta(minutes=10)


def compare(world, told, also=(), **scope):
    world.clock.moment += LATER
    return reconcile(world.gov, told, [world.registry, *also], Scope(**scope))


def found(world, told, **scope) -> list[str]:
    """Which comparisons found something, in order; nothing was left unchecked."""
    compared = compare(world, told, **scope)
    assert compared.unchecked == ()
    return [one.discrepancy.test for one in compared.found]


def score(world, *, task="score", run="run-1", map_index=-1, try_number=1):
    source = Source("retail_pd", run, task, map_index, try_number)
    use = Use("retail_pd", "production", source, "champion")
    with model_in_use(world.gov, world.registry, use) as model:
        return model


def by_hand(world, task_id: str, state: str, *, run="run-1", refused=False) -> None:
    change = ManualChange(Source("retail_pd", run, task_id, -1, 1), state, "retail_pd")
    record_changes(world.gov, [change], RITA, refused=refused)


@pytest.fixture
def flow(candidate, told):
    """A run that trained, validated, asked, was approved, promoted and scored, as both say."""
    told.tell("train", Step.TRAINING, "success")
    told.tell("some_task", Step.VALIDATION, "success")
    candidate.request = candidate.ask()
    candidate.approve(candidate.request)
    told.tell("gate", Step.GATE, "success")
    promote(candidate.gov, candidate.registry, candidate.use())
    told.tell("promote", Step.PROMOTION, "success")
    score(candidate)
    told.tell("score", Step.SCORING, "success")
    return candidate


def blocking(world, version):
    """Return what keeps a version from being approved now."""
    return high_findings(world.gov.ledger.view(), "retail_pd", version, world.clock.now())


class TestByTheBook:
    """Whatever went as it should, in whichever way: nothing is found."""

    def test_a_whole_run(self, flow, told):
        compared = compare(flow, told)
        assert (compared.found, compared.unchecked, compared.is_clean) == ((), (), True)
        assert compared.airflow == "3.3.2"
        counts = {"runs": 1, "tasks": 5, "gates": 1, "changes": 0, "aliases": 1, "findings": 0}
        assert counts.items() <= compared.counts.items()

    def test_tries_that_failed_before(self, flow, told):
        told.tell("train", Step.TRAINING, "failed", "success")
        told.tell("gate", Step.GATE, "failed", "failed", "success")
        told.tell("promote", Step.PROMOTION, "failed", "success")
        score(flow, try_number=3)
        told.tell("score", Step.SCORING, "success", "failed", "success")
        assert found(flow, told) == []

    def test_a_run_that_was_cleared_and_runs_again(self, flow, told):
        told.tell("gate", Step.GATE, "success", "success")
        told.tell("promote", Step.PROMOTION, "success", "success")
        score(flow, try_number=2)
        told.tell("score", Step.SCORING, "success", "success")
        for task, step in (("gate", Step.GATE), ("score", Step.SCORING)):
            told.tell(task, step, "success", "", numbers=(1, 1))
            assert found(flow, told) == []

    def test_mapped_tasks(self, flow, told):
        for index in range(3):
            score(flow, task="mapped", map_index=index)
            told.tell("mapped", Step.SCORING, "success", map_index=index)
        assert found(flow, told) == []

    def test_a_gate_that_waits_and_one_that_was_refused(self, candidate, told):
        candidate.ask()
        told.tell("gate", Step.GATE, "awaiting_input")
        told.tell("promote", Step.PROMOTION, "")
        told.end("running")
        assert found(candidate, told) == []
        with pytest.raises(ApprovalDeniedError):
            candidate.answer(candidate.ask(), "victor", Choice.REJECT)
        told.tell("gate", Step.GATE, "failed")
        told.tell("promote", Step.PROMOTION, "upstream_failed")
        told.end("failed")
        assert found(candidate, told) == []

    @pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.WARN])
    def test_a_mode_that_lets_unapproved_models_run(self, candidate, told, mode):
        candidate.with_inventory(mode=mode)
        candidate.registry.aliases["retail_pd", "champion"] = "1"
        score(candidate)
        told.tell("score", Step.SCORING, "success")
        assert found(candidate, told) == []
        candidate.with_inventory(mode=Mode.ENFORCE)
        compared = compare(candidate, told)
        assert [one.discrepancy.test for one in compared.found] == ["reconcile.alias"]

    def test_an_approval_that_was_revoked_after_its_use(self, flow, told):
        revoke_approval(flow.gov, flow.request.digest, "the data were wrong", OLIVIA)
        assert found(flow, told) == []

    def test_an_approval_that_has_expired(self, flow, told):
        flow.clock.moment += timedelta(days=4000)
        assert found(flow, told) == []

    def test_runs_from_before_the_ledger_began(self, flow, told):
        before = flow.clock.now() - timedelta(days=3)
        for task, step in (("gate", Step.GATE), ("score", Step.SCORING), ("train", Step.TRAINING)):
            told.tell(task, step, "success", run="old", ended_at=before)
        assert found(flow, told) == []

    def test_changes_by_hand_that_the_api_server_let_through(self, candidate, told):
        candidate.ask()
        told.tell("gate", Step.GATE, "success")
        by_hand(candidate, "gate", "success")
        told.log("patch_task_instance", "gate", new_state="success")
        told.tell("promote", Step.PROMOTION, "success")
        by_hand(candidate, "promote", "success", run="")
        told.tell("other", Step.GATE, "awaiting_input", run="run-2")
        other = Source("retail_pd", "run-2", "other", -1, 1)
        candidate.ask(version=candidate.version, source=other)
        told.drop("other", "run-2")
        by_hand(candidate, "other", "deleted", run="run-2")
        assert found(candidate, told) == []

    def test_a_gate_that_is_skipped_when_its_run_times_out_or_goes_another_way(
        self, candidate, told
    ):
        candidate.ask()
        told.tell("gate", Step.GATE, "skipped")
        told.end("failed")
        assert found(candidate, told) == []
        # Asked once, then cleared, and now on a branch that is not taken.
        told.tell("gate", Step.GATE, "failed", "skipped", numbers=(1, 1))
        told.end("success")
        assert found(candidate, told) == []

    def test_a_promotion_that_stands_between_moving_the_alias_and_saying_so(
        self, flow, told, monkeypatch
    ):
        second(flow)
        move = flow.registry.set_alias

        def killed(*args):
            move(*args)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(flow.registry, "set_alias", killed)
            with pytest.raises(KeyboardInterrupt):
                promote(flow.gov, flow.registry, flow.use(run_id="run-2"))
        told.tell("gate", Step.GATE, "success", run="run-2")
        assert flow.registry.aliases["retail_pd", "champion"] == "2"
        assert found(flow, told) == []

    def test_what_ends_while_airflow_is_read(self, flow, told):
        told.tell("score", Step.SCORING, "success", "success")
        told.before_changes = lambda: score(flow, try_number=2)
        assert found(flow, told) == []


def second(world) -> None:
    """Have a second version approved in a second run."""
    world.train('{"points": [7]}', run_id="run-2")
    world.validate_model(note="second")
    world.approve(world.ask(source=Source("retail_pd", "run-2", "gate", -1, 1)))


class TestForcedStates:
    """Bypasses 1, 2, 4, 7 and 8, past the api-server."""

    @pytest.mark.parametrize("state", ["success", "skipped"])
    def test_a_gate(self, candidate, told, state):
        request = candidate.ask()
        told.tell("gate", Step.GATE, state)
        compared = compare(candidate, told)
        (one,) = compared.found
        wrong = one.discrepancy
        assert (wrong.test, wrong.severity) == ("reconcile.gate", Severity.HIGH)
        assert (wrong.model, wrong.version) == ("retail_pd", request.version)
        assert "'gate' of run 'run-1' of DAG 'retail_pd', try 1" in wrong.summary

    def test_a_gate_that_somebody_has_answered_but_not_everybody(self, candidate, told):
        candidate.answer(candidate.ask(), "olivia")
        told.tell("gate", Step.GATE, "success")
        assert found(candidate, told) == ["reconcile.gate"]

    def test_a_gate_that_was_granted_once_and_then_asked_about_another_version(self, flow, told):
        flow.train('{"points": [7]}')
        flow.validate_model(note="second")
        flow.ask()
        told.tell("gate", Step.GATE, "success", "success")
        assert found(flow, told) == ["reconcile.gate"]

    def test_a_promotion_and_a_use(self, candidate, told):
        told.tell("promote", Step.PROMOTION, "success")
        told.tell("score", Step.SCORING, "success")
        assert found(candidate, told) == ["reconcile.task"] * 2
        assert blocking(candidate, candidate.version)

    def test_a_try_that_left_nothing(self, flow, told):
        told.tell("score", Step.SCORING, "success", "success")
        assert found(flow, told) == ["reconcile.task"]

    def test_a_cleared_task_that_was_set_to_success_before_it_ran(self, flow, told):
        told.tell("score", Step.SCORING, "success", "success", numbers=(1, 1))
        assert found(flow, told) == ["reconcile.task"]

    def test_one_of_a_mapped_task(self, flow, told):
        for index in range(2):
            told.tell("mapped", Step.SCORING, "success", map_index=index)
        score(flow, task="mapped", map_index=0)
        compared = compare(flow, told)
        assert [one.discrepancy.segment for one in compared.found] == ["retail_pd run-1 mapped 1 1"]

    def test_a_refused_use(self, candidate, told):
        candidate.registry.aliases["retail_pd", "champion"] = "1"
        with pytest.raises(GuardRefusedError):
            score(candidate)
        candidate.with_inventory(mode=Mode.OBSERVE)  # the refusal said what it meant then
        told.tell("score", Step.SCORING, "success")
        assert found(candidate, told) == ["reconcile.task"]

    def test_a_stopped_use_in_a_mode_that_lets_others_run(self, candidate, told):
        candidate.with_inventory(mode=Mode.OBSERVE)
        candidate.registry.aliases["retail_pd", "champion"] = "1"
        stop_model(candidate.gov, "retail_pd", "it scores nonsense", RITA)
        with pytest.raises(GuardRefusedError):
            score(candidate)
        told.tell("score", Step.SCORING, "success")
        assert found(candidate, told) == ["reconcile.task"]

    def test_an_entry_that_rests_on_no_approval(self, candidate, told):
        request = candidate.ask()
        body = {
            "request_sha256": str(request.digest),
            "target": "production",
            "registry": "folder",
            "alias": "champion",
        }
        source = Source("retail_pd", "run-1", "promote", -1, 1)
        candidate.entry("model.promoted", body, version=request.version, source=source)
        told.tell("gate", Step.GATE, "awaiting_input")
        told.tell("promote", Step.PROMOTION, "success")
        assert found(candidate, told) == ["reconcile.task"]

    def test_a_change_that_was_refused_or_that_a_task_claims_explains_nothing(
        self, candidate, told
    ):
        candidate.ask()
        told.tell("gate", Step.GATE, "success")
        by_hand(candidate, "gate", "success", refused=True)
        candidate.entry(
            "state.changed_by_hand",
            {"task": "gate", "state": "success", "refused": False},
            source=Source("retail_pd", "run-1", "gate", -1, 1),
        )
        assert found(candidate, told) == ["reconcile.gate"]

    def test_a_training_and_a_validation_without_evidence(self, flow, told):
        told.tell("train", Step.TRAINING, "success", run="run-9")
        told.tell("validate", Step.VALIDATION, "success", run="run-9")
        compared = compare(flow, told)
        assert [(o.discrepancy.test, o.discrepancy.severity) for o in compared.found] == [
            ("reconcile.evidence", Severity.MEDIUM)
        ] * 2

    @pytest.mark.parametrize(
        ("fields", "model"),
        [({"model": "retail_pd"}, "retail_pd"), ({"model": "{{ x }}"}, ""), ({}, "")],
    )
    def test_a_task_of_a_dag_that_is_not_on_record(self, candidate, told, fields, model):
        told.dag_id = "unknown"
        told.tell("score", Step.SCORING, "success", fields=fields)
        (one,) = compare(candidate, told).found
        assert (one.discrepancy.model, one.discrepancy.version) == (model, None)
        (finding,) = open_findings(candidate.gov.ledger.view(), model)
        assert (finding.version, finding.owner) == (None, "olivia" if model else "")


class TestVanished:
    """Bypass 3."""

    def test_the_task_the_run_or_the_dag(self, candidate, told):
        request = candidate.ask()
        told.tell("gate", Step.GATE, "awaiting_input")
        told.tell("promote", Step.PROMOTION, "")
        assert found(candidate, told) == []
        told.drop("gate")
        (one,) = compare(candidate, told).found
        assert (one.discrepancy.test, one.is_new) == ("reconcile.vanished", True)
        assert one.discrepancy.version == request.version
        told.runs.clear()
        (again,) = compare(candidate, told).found
        assert (again.finding, again.is_new) == (one.finding, False)

    def test_one_that_is_older_than_airflow_keeps_runs(self, candidate, told):
        candidate.ask()
        candidate.clock.moment += timedelta(days=40)
        assert found(candidate, told) == []

    def test_one_that_still_waits_is_asked_about_however_late(self, candidate, told):
        candidate.ask()
        told.tell("gate", Step.GATE, "awaiting_input")
        for _ in range(3):
            candidate.clock.moment += timedelta(days=5)
            assert found(candidate, told) == []
        told.runs.clear()
        assert found(candidate, told) == ["reconcile.vanished"]


class TestAliases:
    """Bypass 17."""

    def test_one_that_was_moved_to_another_version(self, flow, told):
        other = flow.train('{"points": [7]}')
        flow.registry.aliases["retail_pd", "champion"] = "2"
        (one,) = compare(flow, told).found
        wrong = one.discrepancy
        assert (wrong.test, wrong.severity) == ("reconcile.alias", Severity.HIGH)
        assert (wrong.version, one.repair) == (other, "")
        assert flow.registry.aliases["retail_pd", "champion"] == "2", "not asked for"
        assert blocking(flow, other) == [one.finding]

    def test_one_that_was_moved_back_to_an_earlier_promotion(self, flow, told):
        second(flow)
        promote(flow.gov, flow.registry, flow.use(run_id="run-2"))
        told.tell("gate", Step.GATE, "success", run="run-2")
        assert found(flow, told) == []
        flow.registry.aliases["retail_pd", "champion"] = "1"
        assert found(flow, told) == ["reconcile.alias"]

    def test_one_that_points_to_a_copy_with_the_same_tag(self, flow, told):
        copy = replace(flow.registry.held[0], version="2")
        flow.registry.held.append(copy)
        flow.registry.aliases["retail_pd", "champion"] = "2"
        assert found(flow, told) == ["reconcile.alias"]

    def test_one_of_a_version_that_is_not_ours(self, flow, told):
        theirs = replace(flow.registry.held[0], version="2", manifest=None)
        flow.registry.held.append(theirs)
        flow.registry.aliases["retail_pd", "champion"] = "2"
        (one,) = compare(flow, told).found
        assert one.discrepancy.version is None
        assert blocking(flow, flow.version) == [one.finding]

    def test_one_that_nobody_promoted(self, candidate, told):
        candidate.registry.aliases["retail_pd", "champion"] = "1"
        assert found(candidate, told) == ["reconcile.alias"]

    def test_a_promotion_on_record_that_rests_on_no_approval(self, candidate, told):
        body = {
            "request_sha256": str(Digest.of(b"none")),
            "target": "production",
            "registry": "folder",
            "registry_version": "1",
            "alias": "champion",
        }
        candidate.entry("model.promoted", body, version=candidate.version)
        candidate.registry.aliases["retail_pd", "champion"] = "1"
        assert found(candidate, told) == ["reconcile.alias"]

    def test_each_registry_is_held_against_its_own_promotions(self, flow, told, tmp_path):
        paris = FolderRegistry(tmp_path / "paris", "folder://paris")
        paris.register("retail_pd", flow.model_dir, hash_directory(flow.model_dir), {})
        second(flow)
        promote(flow.gov, flow.registry, flow.use(run_id="run-2"), also=[paris])
        told.tell("gate", Step.GATE, "success", run="run-2")
        assert compare(flow, told, also=[paris]).found == ()
        paris.aliases["retail_pd", "champion"] = "1"
        assert [f.discrepancy.test for f in compare(flow, told, also=[paris]).found] == [
            "reconcile.alias"
        ]

    def test_a_status_that_was_set_by_hand(self, flow, told):
        other = flow.train('{"points": [7]}')
        flow.registry.approved_by_hand = {("retail_pd", "1")}
        assert found(flow, told) == [], "version 1 was promoted"
        flow.registry.approved_by_hand = {("retail_pd", "2")}
        (one,) = compare(flow, told).found
        assert (one.discrepancy.test, one.discrepancy.version) == ("reconcile.status", other)
        assert "nobody promoted it" in one.discrepancy.summary

    def test_it_is_put_back_on_record(self, flow, told):
        flow.train('{"points": [7]}')
        flow.registry.aliases["retail_pd", "champion"] = "2"
        (one,) = compare(flow, told, repair=True).found
        assert one.repair == "repaired: it points to version 1 again"
        assert flow.registry.aliases["retail_pd", "champion"] == "1"
        (entry,) = flow.kinds("alias.repaired")
        assert (entry.version, entry.body["instead_of"]) == (flow.request.version, "2")
        assert found(flow, told) == []
        assert open_findings(flow.gov.ledger.view()), "a finding stays until people close it"

    def test_it_is_not_put_back_under_an_approval_that_has_ended(self, flow, told):
        flow.train('{"points": [7]}')
        flow.registry.aliases["retail_pd", "champion"] = "2"
        revoke_approval(flow.gov, flow.request.digest, "the data were wrong", OLIVIA)
        (one,) = compare(flow, told, repair=True).found
        assert one.repair.startswith("not repaired: [revoked]")
        assert flow.registry.aliases["retail_pd", "champion"] == "2"
        assert flow.kinds("alias.repaired") == []

    def test_it_is_not_put_back_to_files_that_were_changed(self, flow, told):
        flow.train('{"points": [7]}')
        flow.registry.aliases["retail_pd", "champion"] = "2"
        (flow.registry.folder("retail_pd", "1") / "scorecard.json").write_text("{}")
        (one,) = compare(flow, told, repair=True).found
        assert one.repair.startswith("not repaired: [digest]")
        assert flow.registry.aliases["retail_pd", "champion"] == "2"

    def test_nothing_is_moved_that_is_not_on_record_first(self, flow, told, monkeypatch):
        flow.train('{"points": [7]}')
        flow.registry.aliases["retail_pd", "champion"] = "2"
        append = flow.gov.ledger.append

        def full(draft, **more):
            if draft.kind == "alias.repaired":
                raise LedgerUnavailableError("the disk is full")
            return append(draft, **more)

        monkeypatch.setattr(flow.gov.ledger, "append", full)
        with pytest.raises(LedgerUnavailableError):
            compare(flow, told, repair=True)
        assert flow.registry.aliases["retail_pd", "champion"] == "2"


class TestEntries:
    """Bypass 19."""

    def test_one_that_a_task_may_not_sign(self, flow, told, monkeypatch):
        from airflow_mlgov.records.kinds import KINDS
        from airflow_mlgov.service import ledger as module

        writable = replace(KINDS["finding.closed"], signers=frozenset(KeyRole))
        with monkeypatch.context() as patched:
            patched.setattr(module, "KINDS", {**KINDS, "finding.closed": writable})
            flow.entry("finding.closed", {"finding": "F-00000001"}, version=flow.version)
        (one,) = compare(flow, told).found
        wrong = one.discrepancy
        assert (wrong.test, wrong.severity) == ("reconcile.entry", Severity.HIGH)
        assert (wrong.model, wrong.version) == ("retail_pd", flow.version)
        assert "A writer key may not sign finding.closed" in wrong.summary


class TestAuditLog:
    """Changes by hand that came past the recorder."""

    @pytest.mark.parametrize(
        ("event", "task", "extra", "severity"),
        [
            ("patch_task_instance", "gate", {"new_state": "success"}, Severity.MEDIUM),
            ("patch_dag_run", "", {"state": "success"}, Severity.MEDIUM),
            ("create_xcom_entry", "gate", {}, Severity.MEDIUM),
            ("cli_task_clear", "", {}, Severity.LOW),
            ("cli_dag_delete", "", {}, Severity.MEDIUM),
        ],
    )
    def test_one_that_the_ledger_does_not_have(self, flow, told, event, task, extra, severity):
        told.log(event, task, run="" if event.startswith("cli") else "run-1", **extra)
        (one,) = compare(flow, told).found
        wrong = one.discrepancy
        assert (wrong.test, wrong.severity) == ("reconcile.change", severity)
        assert (wrong.model, wrong.version) == ("retail_pd", None)
        state = extra.get("new_state") or extra.get("state")
        state = state or {"create": "xcom", "cli_ta": "cleared"}.get(event[:6], "deleted")
        for name in ("gate", "promote", "score"):
            by_hand(flow, name, state, run="" if event.startswith("cli") else "run-1")
        told.log(event, task, run="" if event.startswith("cli") else "run-1", **extra)
        assert len(compare(flow, told).found) == 1, "the second one is on record"

    @pytest.mark.parametrize(
        ("event", "task", "extra"),
        [
            ("patch_task_instance", "gate", {"new_state": "failed"}),
            ("patch_task_instance", "some_task", {"new_state": "success"}),
            ("patch_task_instance", "gate", {"note": "a note"}),
            ("delete_dag_run", "", {}),
            ("post_clear_task_instances", "", {"task_ids": ["gate"]}),
            ("post_clear_task_instances", "", {"task_ids": ["gate"], "only_failed": False}),
            ("clear_dag_run", "", {"only_failed": True}),
        ],
        ids=[
            *("not done", "no gate", "no state", "run is here", "filtered", "not cleared"),
            "filtered run",
        ],
    )
    def test_one_that_changed_nothing_of_ours(self, flow, told, event, task, extra):
        told.log(event, task, **extra)
        assert found(flow, told) == []

    def test_a_clear_that_was_done(self, flow, told):
        told.tell("gate", Step.GATE, "success", "success")
        extra = {"task_ids": [["gate", -1]], "only_failed": False}
        told.log("post_clear_task_instances", "", **extra)
        assert found(flow, told) == ["reconcile.change"]

    def test_a_deleted_run_is_told_by_log_and_ledger(self, flow, told):
        told.log("delete_dag_run")
        told.runs.clear()
        assert found(flow, told) == ["reconcile.vanished", "reconcile.change"]

    def test_a_row_of_this_minute_is_left_for_the_next_time(self, flow, told):
        flow.clock.moment += LATER
        told.log("patch_task_instance", "gate", at=flow.clock.now() + LATER, new_state="success")
        assert found(flow, told) == []
        assert found(flow, told) == ["reconcile.change"]


class TestFindings:
    def test_they_are_opened_once(self, candidate, told):
        candidate.ask()
        told.tell("gate", Step.GATE, "success")
        first, again = compare(candidate, told), compare(candidate, told)
        assert [(f.finding, f.is_new) for f in again.found] == [
            (f.finding, False) for f in first.found
        ]
        assert len(candidate.kinds("finding.opened")) == 1
        (finding,) = open_findings(candidate.gov.ledger.view())
        assert finding.owner == "olivia"
        assert finding.due_at == first.until + timedelta(days=7)
        assert finding.severity is Severity.HIGH

    def test_the_version_cannot_be_asked_about_until_they_are_closed(self, candidate, told):
        request = candidate.ask()
        told.tell("gate", Step.GATE, "success")
        (one,) = compare(candidate, told).found
        gate = Source("retail_pd", "run-2", "gate", -1, 1)
        with pytest.raises(RequestRefusedError, match=one.finding):
            candidate.ask(version=request.version, source=gate)

    def test_one_on_the_model_blocks_every_version(self, flow, told):
        told.tell("score", Step.SCORING, "success", run="scoring-run")
        (one,) = compare(flow, told).found
        assert one.discrepancy.version is None
        flow.train('{"points": [7]}', run_id="run-2")
        flow.validate_model(note="second")
        gate = Source("retail_pd", "run-2", "gate", -1, 1)
        with pytest.raises(RequestRefusedError, match=one.finding):
            flow.ask(source=gate)
        close(flow, one)
        flow.ask(source=gate)

    def test_what_happened_once_stays_closed(self, candidate, told):
        candidate.ask()
        told.tell("gate", Step.GATE, "success")
        (one,) = compare(candidate, told).found
        close(candidate, one)
        (again,) = compare(candidate, told).found
        assert (again.is_new, again.is_open) == (False, False)
        assert compare(candidate, told).is_clean

    def test_an_alias_that_is_still_wrong_is_opened_again(self, flow, told):
        flow.train('{"points": [7]}')
        flow.registry.aliases["retail_pd", "champion"] = "2"
        (one,) = compare(flow, told).found
        close(flow, one)
        (again,) = compare(flow, told).found
        assert (again.finding, again.is_new, again.is_open) == (one.finding, True, True)
        assert [f.is_open for f in all_findings(flow.gov.ledger.view())] == [True]

    def test_of_two_that_compare_at_once_both_go_on(self, candidate, told, monkeypatch):
        candidate.ask()
        told.tell("gate", Step.GATE, "success")
        first = compare(candidate, told)
        # The other one has read the ledger before the finding stood there.
        monkeypatch.setattr("airflow_mlgov.service.reconcile.all_findings", lambda *_: [])
        again = compare(candidate, told, source=Source("reconcile", "r", "reconcile", -1, 1))
        assert [f.finding for f in first.found] == [f.finding for f in again.found]
        assert len(candidate.kinds("finding.opened")) == 1


def close(world, one) -> None:
    draft = EntryDraft(
        kind="finding.closed",
        model=one.discrepancy.model,
        version=one.discrepancy.version,
        body={"finding": one.finding},
        identity=(one.finding, str(world.clock.now())),
    )
    world.gov.ledger.seal(world.gov.ledger.append(draft, role=KeyRole.ATTESTOR))


class TestWhatCannotBeChecked:
    def test_airflow_cannot_be_reached(self, flow, told):
        told.down_after = 0
        compared = compare(flow, told)
        assert compared.unchecked == ("Airflow: Airflow cannot be reached",)
        assert (compared.airflow, compared.is_clean) == ("", False)
        (entry,) = flow.kinds("reconciled")
        assert entry.body["unchecked"] == list(compared.unchecked)
        assert entry.body["counts"]["unchecked"] == 1

    def test_it_goes_away_in_the_middle(self, candidate, told):
        candidate.ask()
        told.tell("gate", Step.GATE, "success")
        told.tell("gate", Step.GATE, "success", run="run-2")
        told.down_after = 4  # version, runs, runs of the DAG, the first run
        compared = compare(candidate, told)
        assert [one.discrepancy.test for one in compared.found] == ["reconcile.gate"]
        assert compared.unchecked == ("Airflow: Airflow cannot be reached",)

    @pytest.mark.parametrize("what", ["retail_pd", "run-1"])
    def test_a_part_is_not_for_us_to_read(self, flow, told, what):
        told.forbidden = {what}
        compared = compare(flow, told)
        assert [what in one and "403" in one for one in compared.unchecked] == [True]
        assert compared.found == (), "what may not be read has not vanished"

    def test_the_registry_cannot_be_reached(self, flow, told, monkeypatch):
        def down(*_):
            raise RegistryUnavailableError("the registry cannot be reached")

        monkeypatch.setattr(flow.registry, "by_alias", down)
        compared = compare(flow, told)
        assert compared.unchecked == ("Registry: the registry cannot be reached",)

    def test_an_approval_whose_pack_is_gone(self, flow, told):
        flow.gov.evidence.documents.pop(flow.request.policy)
        compared = compare(flow, told)
        assert compared.found == ()
        assert len(compared.unchecked) == 4
        assert all("its approval cannot be counted" in what for what in compared.unchecked)

    def test_the_next_one_begins_where_the_last_complete_one_ended(self, flow, told):
        first = compare(flow, told)
        assert first.since == flow.kinds("genesis")[0].at
        told.forbidden = {"run-1"}
        flow.clock.moment += timedelta(days=9)
        partial = compare(flow, told)
        assert partial.since == first.until - OVERLAP
        told.forbidden = set()
        assert compare(flow, told).since == first.until - OVERLAP
        last = compare(flow, told)
        assert last.since > first.until - OVERLAP

    def test_an_entry_that_claims_the_future_leaves_nothing_out(self, flow, told):
        claim = {"since": "2026-06-01T00:00:00.000Z", "until": "2999-01-01T00:00:00.000Z"}
        flow.gov.ledger.append(
            EntryDraft("reconciled", "", None, claim | {"counts": {}, "unchecked": []}, ("x",))
        )
        assert compare(flow, told).since == flow.kinds("genesis")[0].at


class TestOneModel:
    def test_only_what_is_about_it(self, candidate, told):
        candidate.gov.inventory["other"] = replace(
            candidate.gov.inventory["retail_pd"], id="other", registered_name="other"
        )
        candidate.ask()
        told.tell("gate", Step.GATE, "success")
        assert found(candidate, told, model="other") == []
        (entry,) = candidate.kinds("reconciled")
        assert entry.model == "other"
        assert found(candidate, told, model="retail_pd") == ["reconcile.gate"]
        compared = compare(candidate, told)
        assert compared.since == candidate.kinds("genesis")[0].at, "others were not compared"

    def test_what_may_be_about_it_is_not_taken_for_right(self, candidate, told):
        told.dag_id = "unknown"
        told.tell("score", Step.SCORING, "success")
        compared = compare(candidate, told, model="retail_pd")
        assert compared.found == ()
        assert "Nobody can say which model" in compared.unchecked[0]

    def test_an_unknown_one(self, candidate, told):
        with pytest.raises(UnknownSubjectError):
            compare(candidate, told, model="nobody")
        assert candidate.kinds("reconciled") == []


EMERGENCY = (
    "break_glass: {users: [zoe], max_hours: 8, quorum: 1, confirm_within_days: 3}\nvalid_days:"
)


class TestBrokenGlass:
    """An emergency stands in for votes: what it let through is no discrepancy, its finding is."""

    @pytest.fixture
    def emergency(self, candidate, told):
        candidate.with_pack("valid_days:", EMERGENCY)
        candidate.validate_model(note="again")
        told.tell("train", Step.TRAINING, "success")
        told.tell("some_task", Step.VALIDATION, "success")
        order = Emergency("retail_pd", candidate.version, "production", 8)
        use_break_glass(candidate.gov, order, "fraud rises by the hour", Person("zoe", "zoe"))
        return candidate

    def test_what_it_let_through(self, emergency, told):
        promote(emergency.gov, emergency.registry, emergency.use(), emergency.version)
        score(emergency)
        told.tell("gate", Step.GATE, "success", fields={"model": "retail_pd"})
        told.tell("promote", Step.PROMOTION, "success")
        told.tell("score", Step.SCORING, "success")
        assert found(emergency, told) == []

    def test_a_gate_without_a_decision_before_and_after(self, emergency, told):
        for hours in (-1, 9):
            at = emergency.clock.moment + timedelta(hours=hours)
            fields = {"model": "retail_pd"}
            told.tell(f"gate_{hours}", Step.GATE, "success", ended_at=at, fields=fields)
        emergency.clock.moment += timedelta(hours=10)
        assert found(emergency, told) == ["reconcile.gate"]  # the one before: nobody kept a ledger

    def test_a_gate_that_was_forced_while_glass_was_broken_for_another_version(
        self, emergency, told
    ):
        emergency.train('{"points": [9]}', run_id="run-2")
        told.tell("train", Step.TRAINING, "success", run="run-2")
        told.tell("gate", Step.GATE, "success", run="run-2", fields={"model": "retail_pd"})
        assert found(emergency, told) == ["reconcile.gate"]

    def test_an_alias_that_a_promotion_in_an_emergency_is_about_to_move(self, emergency, told):
        class CutError(Exception):
            pass

        set_alias = emergency.registry.set_alias

        def cut(*args):
            set_alias(*args)
            raise CutError

        emergency.registry.set_alias = cut
        with pytest.raises(CutError):
            promote(emergency.gov, emergency.registry, emergency.use(), emergency.version)
        assert emergency.kinds("model.promoted") == []
        assert found(emergency, told) == []

    @pytest.mark.parametrize(
        "claim",
        [
            {"task": "other"},
            {"key": "sha256:" + "0" * 64},
            {"target": "test"},
            {"hours": 9},
        ],
    )
    def test_a_promotion_that_only_claims_to_rest_on_it(self, emergency, told, claim):
        promote(emergency.gov, emergency.registry, emergency.use(), emergency.version)
        (real,) = emergency.kinds("model.promoted")
        told.tell("promote", Step.PROMOTION, "success")
        emergency.clock.moment += timedelta(hours=claim.get("hours", 0))
        key, task = claim.get("key", real.body["breakglass"]), claim.get("task", "promote")
        emergency.entry(
            "model.promoted",
            real.body | {"breakglass": key, "target": claim.get("target", "production")},
            version=emergency.version,
            source=Source("retail_pd", "run-9", task, -1, 1),
            identity=("claim",),
        )
        told.tell(task, Step.PROMOTION, "success", run="run-9")
        assert "reconcile.task" in found(emergency, told)


def test_a_use_that_names_the_approval_of_another_version(flow, told):
    flow.train('{"points": [9]}', run_id="run-2")
    flow.entry(
        "model.scored",
        {"request_sha256": str(flow.request.digest), "target": "production"},
        version=flow.version,
        source=Source("retail_pd", "run-2", "score", -1, 1),
    )
    told.tell("train", Step.TRAINING, "success", run="run-2")
    told.tell("score", Step.SCORING, "success", run="run-2")
    assert found(flow, told) == ["reconcile.task"]
