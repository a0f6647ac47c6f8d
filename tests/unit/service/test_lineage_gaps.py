"""Tries that left entries and no event, and events that left no entry."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_mlgov.errors import LedgerUnavailableError
from airflow_mlgov.records.governance import Severity
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import Step
from airflow_mlgov.service.approvals import Use
from airflow_mlgov.service.lineage_gaps import ToldEnd
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.reconcile import Scope, reconcile
from airflow_mlgov.service.score import model_in_use

DATED = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass
class ToldLineage:
    """A `LineageRecords` that says what it is told."""

    begun_at: datetime
    until: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    silent: set = field(default_factory=set)
    unwanted: set = field(default_factory=set)
    ended: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    is_down: bool = False

    def span(self):
        return None if self.begun_at is None else (self.begun_at, self.until)

    def is_told(self, task, dated_at):
        if self.is_down:
            raise LedgerUnavailableError("The outbox is away.")
        self.asked.append((task, dated_at))
        return None if task.task_id in self.unwanted else task.task_id not in self.silent

    def ends(self, since):
        if self.is_down:
            raise LedgerUnavailableError("The outbox is away.")
        return iter([end for end in self.ended if end.at >= since])


@pytest.fixture
def flow(candidate, told):
    """A run that asked, was approved, promoted and scored, as Airflow and the ledger say."""
    candidate.approve(candidate.ask())
    promote(candidate.gov, candidate.registry, candidate.use())
    use = Use("retail_pd", "production", Source("retail_pd", "run-1", "score", 2, 1), "champion")
    with model_in_use(candidate.gov, candidate.registry, use):
        pass
    for task, step in (("gate", Step.GATE), ("promote", Step.PROMOTION)):
        told.tell(task, step, "success")
    told.tell("score", Step.SCORING, "success", map_index=2)
    key = ("retail_pd", "run-1")
    told.runs[key] = replace(told.runs[key], dated_at=DATED)
    return candidate


@pytest.fixture
def lineage(candidate):
    return ToldLineage(candidate.clock.now() - timedelta(days=1))


def compare(world, told, lineage, since=None):
    world.clock.moment += timedelta(minutes=10)
    return reconcile(world.gov, told, [world.registry], Scope(since=since), lineage)


def gaps(compared):
    return [
        (one.discrepancy.severity, one.discrepancy.segment)
        for one in compared.found
        if one.discrepancy.test == "reconcile.lineage"
    ]


def test_where_every_try_has_an_event_nothing_is_found(flow, told, lineage):
    compared = compare(flow, told, lineage)
    assert (gaps(compared), compared.unchecked) == ([], ())
    assert compared.counts["events"] == 0
    asked = {(task.task_id, task.map_index, task.try_number) for task, _ in lineage.asked}
    assert {("gate", -1, 1), ("promote", -1, 1), ("score", 2, 1)} <= asked
    assert {at for _, at in lineage.asked} == {DATED}


def test_a_try_without_an_event_is_found_and_names_its_model(flow, told, lineage):
    lineage.silent = {"score"}
    compared = compare(flow, told, lineage)
    assert gaps(compared) == [(Severity.MEDIUM, "retail_pd run-1 score 2 1")]
    (found,) = compared.found
    assert found.discrepancy.model == "retail_pd"
    assert "has left model.scored in the ledger, but no event" in found.discrepancy.summary
    assert compare(flow, told, lineage).found[0].finding == found.finding


def test_a_training_of_a_named_task_must_be_told_too(flow, told, lineage):
    from airflow_mlgov.service.outside_training import record_outside_training

    source = Source("retail_pd", "run-1", "fit", -1, 1)
    code = {"operator": "BashOperator", "file": "d.py", "code_sha256": f"sha256:{'0' * 64}"}
    record_outside_training(flow.gov, "retail_pd", source, code)
    lineage.silent = {"fit"}
    assert gaps(compare(flow, told, lineage)) == [(Severity.MEDIUM, "retail_pd run-1 fit -1 1")]


def test_what_the_deployment_itself_leaves_out_is_no_gap(flow, told, lineage):
    lineage.unwanted = {"gate", "promote", "score"}
    assert gaps(compare(flow, told, lineage)) == []


@pytest.mark.parametrize("change", ["later", "earlier", "empty", "undated"])
def test_what_nobody_can_know_is_not_judged(flow, told, lineage, change):
    lineage.silent = {"score"}
    now = flow.clock.now()
    if change == "later":
        lineage.begun_at = now + timedelta(seconds=1)
    elif change == "earlier":
        lineage.until = now - timedelta(seconds=1)
    elif change == "empty":
        lineage.begun_at = None
    else:
        key = ("retail_pd", "run-1")
        told.runs[key] = replace(told.runs[key], dated_at=None)
    assert gaps(compare(flow, told, lineage)) == []


def end(role="use", at=None, world=None, **changes):
    task = {"dag_id": "retail_pd", "run_id": "run-1", "task_id": "score", "map_index": 2}
    task |= {"try_number": 1} | changes
    return ToldEnd(Source(**task), "retail_pd", role, at or world.clock.now())


def test_an_end_with_its_entry_is_fine(flow, told, lineage):
    lineage.ended = [end(world=flow), end("promote", task_id="promote", map_index=-1, world=flow)]
    compared = compare(flow, told, lineage)
    assert (gaps(compared), compared.counts["events"]) == ([], 2)


@pytest.mark.parametrize(
    ("role", "changes", "is_found"),
    [
        ("use", {"try_number": 2}, True),
        ("use", {"map_index": 3}, True),
        ("use", {"run_id": "deleted"}, True),
        ("promote", {"task_id": "promote", "map_index": -1, "try_number": 2}, False),
        ("promote", {"task_id": "promote", "map_index": -1, "try_number": 0}, True),
        ("train", {"task_id": "fit", "map_index": -1}, True),
        ("approve", {"task_id": "other_gate", "map_index": -1}, False),
    ],
)
def test_an_end_without_its_entry_is_found(flow, told, lineage, role, changes, is_found):
    lineage.ended = [end(role, world=flow, **changes)]
    found = gaps(compare(flow, told, lineage))
    assert [severity for severity, _ in found] == ([Severity.HIGH] if is_found else [])


def test_what_ended_before_the_ledger_began_is_not_in_it(flow, told, lineage):
    before = flow.gov.ledger.view().select("genesis")[0].at - timedelta(seconds=1)
    lineage.ended = [end(task_id="other", at=before)]
    compared = compare(flow, told, lineage, since=before - timedelta(days=1))
    assert (gaps(compared), compared.counts["events"]) == ([], 1)


def test_an_outbox_that_is_away_is_said(flow, told, lineage):
    lineage.is_down = True
    compared = compare(flow, told, lineage)
    assert gaps(compared) == []
    assert compared.unchecked == ("Lineage: The outbox is away.",)


def test_without_lineage_nothing_is_said_to_have_been_compared(flow, told):
    compared = compare(flow, told, None)
    assert "events" not in compared.counts
    assert compared.is_clean
