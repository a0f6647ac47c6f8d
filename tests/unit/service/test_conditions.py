"""Approvals with conditions, from the vote to the guard, on a real ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_mlgov.errors import GuardRefusedError, VoteRefusedError
from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.conditions import Conditions
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import standing_of
from airflow_mlgov.service.attest_vote import Ballot, cast_vote
from airflow_mlgov.service.conditions import Rows
from airflow_mlgov.service.dossier import collect_dossier
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.score import Admission, check_use, model_in_use
from airflow_mlgov.service.vote import Answer, count_votes, record_answer

PACK = """conditions:
  end_date: true
  max_rows_per_run: true
  segments: {SEX: ["1", "2"]}
  data_validation: true
seats:
"""
ANY = Rows(5, {"SEX": frozenset("1")})


@pytest.fixture
def conditional(world: Any) -> Any:
    world.with_pack("seats:\n", PACK)
    world.validate_data()
    world.train()
    world.validate_model()
    return world


def answer(world: Any, request: Any, who: str, **conditions: Any) -> None:
    choice = Choice.APPROVE_WITH_CONDITIONS if conditions else Choice.APPROVE
    given = Conditions.from_json(conditions)
    text = str(request.digest)
    comment, person = "looked at the evidence", Person(who, who)
    ballot = Ballot(request.digest, world.GATE, text, choice, comment, person, conditions=given)
    cast_vote(world.gov, ballot)


def promoted(world: Any, **conditions: Any) -> Any:
    request = world.ask()
    answer(world, request, "olivia", **conditions)
    answer(world, request, "victor")
    standing = count_votes(world.gov, request)
    assert standing.decision is Decision.GRANTED
    promote(world.gov, world.registry, world.use())
    return standing


def admit(
    world: Any, rows: Rows, *, task: str = "score", run: str = "run-2", attempt: int = 1
) -> None:
    use = world.use(task, run)
    use = replace(use, source=replace(use.source, try_number=attempt))
    with model_in_use(world.gov, world.registry, use) as model:
        admission = Admission(world.gov, model)
        admission.admit(rows)
        assert (admission.files() / "scorecard.json").exists()


def refusal(world: Any) -> str:
    refused = world.kinds("guard.refused")[-1].body
    assert refused["check"] == "conditions"
    return str(refused["reason"])


def test_the_vote_and_the_decision_state_the_conditions(conditional: Any) -> None:
    standing = promoted(conditional, max_rows_per_run=10, segments={"SEX": ["1"]})
    said = {"max_rows_per_run": 10, "segments": {"SEX": ["1"]}}
    votes = conditional.kinds("approval.voted")
    assert [entry.body.get("conditions") for entry in votes] == [said, None]
    (granted,) = conditional.kinds("approval.granted")
    assert granted.body["statement"]["predicate"]["conditions"] == said
    dossier = collect_dossier(
        conditional.gov, conditional.gov.ledger.view(), standing.request.digest, Person("x", "x")
    )
    words = ["at most 10 rows in one run", "only rows whose SEX is 1"]
    assert dossier.conditions == words
    assert f"approved with conditions: {'; '.join(words)}" in [h.event for h in dossier.history]


def test_what_a_pack_does_not_allow_is_refused_when_it_is_answered(candidate: Any) -> None:
    request = candidate.ask()
    with pytest.raises(VoteRefusedError, match="lets nobody limit rows"):
        answer(candidate, request, "olivia", max_rows_per_run=10)
    assert candidate.kinds("approval.vote_refused")[-1].body["conditions"] == {
        "max_rows_per_run": 10
    }


def test_fields_that_cannot_be_read_are_refused_unless_somebody_rejects(conditional: Any) -> None:
    request, olivia = conditional.ask(), Person("olivia", "olivia")
    broken = Ballot(
        request.digest,
        conditional.GATE,
        str(request.digest),
        Choice.APPROVE_WITH_CONDITIONS,
        "looked at the evidence",
        olivia,
        problem="a condition cannot be read: it is upside down",
    )
    with pytest.raises(VoteRefusedError, match="upside down"):
        cast_vote(conditional.gov, broken)
    assert cast_vote(conditional.gov, replace(broken, choice=Choice.REJECT)).receipt


def test_the_same_answer_with_other_conditions_is_another_answer(conditional: Any) -> None:
    request = conditional.ask()
    answer(conditional, request, "olivia", max_rows_per_run=10)
    answer(conditional, request, "olivia", max_rows_per_run=10)
    with pytest.raises(VoteRefusedError, match="voted before"):
        answer(conditional, request, "olivia", max_rows_per_run=20)
    assert len(conditional.kinds("approval.voted")) == 1


def test_a_last_day_ends_the_approval_before_its_time(conditional: Any) -> None:
    standing = promoted(conditional, end_date="2026-06-03")
    assert standing.expires_at == datetime(2026, 6, 4, tzinfo=UTC)
    conditional.clock.moment = standing.expires_at - timedelta(milliseconds=1)
    admit(conditional, ANY)
    conditional.clock.moment = standing.expires_at
    with pytest.raises(GuardRefusedError) as caught:
        admit(conditional, ANY)
    assert caught.value.check == "expiry"


def test_a_last_day_after_its_time_lengthens_nothing(conditional: Any) -> None:
    standing = promoted(conditional, end_date="2099-01-01")
    assert standing.expires_at == standing.granted_at + timedelta(days=standing.pack.valid_days)


def test_rows_of_a_run_are_counted_over_its_tasks_and_calls(conditional: Any) -> None:
    promoted(conditional, max_rows_per_run=10)
    admit(conditional, ANY, task="score_a")
    admit(conditional, ANY, task="score_b")
    with pytest.raises(GuardRefusedError, match="with these 1 more"):
        admit(conditional, Rows(1, {}), task="score_c")
    assert "10 rows in one run" in refusal(conditional)
    admit(conditional, ANY, task="score_a", run="run-3")
    admitted = conditional.kinds("model.admitted")
    assert [entry.body["rows"] for entry in admitted] == [5, 5, 1, 5]


def test_what_was_refused_takes_no_room(conditional: Any) -> None:
    promoted(conditional, max_rows_per_run=10)
    with pytest.raises(GuardRefusedError):
        admit(conditional, Rows(11, {}), task="score_a")
    admit(conditional, Rows(10, {}), task="score_b")


def test_two_calls_of_a_task_add_up_and_its_next_try_begins_anew(conditional: Any) -> None:
    promoted(conditional, max_rows_per_run=10)
    admit(conditional, Rows(6, {}))
    with pytest.raises(GuardRefusedError):
        admit(conditional, Rows(6, {}))
    admit(conditional, Rows(6, {}), attempt=2)
    admit(conditional, Rows(4, {}), attempt=2)
    with pytest.raises(GuardRefusedError):
        admit(conditional, Rows(1, {}), attempt=2)


def test_of_two_tasks_at_once_the_ledger_decides(conditional: Any) -> None:
    """Both have noted their rows before either looks: the second is too many for both."""
    promoted(conditional, max_rows_per_run=10)
    uses = [conditional.use(task, "run-2") for task in ("score_a", "score_b")]
    ledger, gov = conditional.gov.ledger, conditional.gov
    with (
        model_in_use(gov, conditional.registry, uses[0]) as one,
        model_in_use(gov, conditional.registry, uses[1]) as other,
    ):
        seal = ledger.seal

        def let_the_other_in(receipt: Any) -> Any:
            ledger.seal = seal
            sealed = seal(receipt)
            with pytest.raises(GuardRefusedError):
                Admission(gov, other).admit(Rows(6, {}))
            return sealed

        ledger.seal = let_the_other_in
        Admission(gov, one).admit(Rows(6, {}))
    assert len(conditional.kinds("model.admitted")) == 2


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (Rows(2, {"SEX": frozenset("12")}), "there are others: '2'"),
        (Rows(2, {"SEX": frozenset(("1", ""))}), "there are others: ''"),
        (Rows(2, {}), "have no such column"),
    ],
)
def test_rows_outside_the_segment_are_refused(conditional: Any, rows: Rows, problem: str) -> None:
    promoted(conditional, segments={"SEX": ["1"]})
    with pytest.raises(GuardRefusedError, match=problem):
        admit(conditional, rows)
    assert problem in refusal(conditional)
    assert conditional.kinds("model.admitted") == []
    admit(conditional, ANY)


def test_who_shows_no_rows_gets_no_files(conditional: Any) -> None:
    promoted(conditional, max_rows_per_run=10)
    use = conditional.use("score")
    with (
        model_in_use(conditional.gov, conditional.registry, use) as model,
        pytest.raises(GuardRefusedError, match="before it shows rows"),
    ):
        Admission(conditional.gov, model).files()
    assert "before it shows rows" in refusal(conditional)


def test_a_task_that_loads_the_model_itself_is_refused(conditional: Any) -> None:
    promoted(conditional, segments={"SEX": ["1"]})
    use = conditional.use("score")
    with pytest.raises(GuardRefusedError, match="loads the model by itself"):
        check_use(conditional.gov, lambda: conditional.registry, use, "model.scored")
    assert conditional.kinds("model.scored") == []


@pytest.mark.parametrize("passed", [None, False, True])
def test_a_run_without_validated_data_is_refused(conditional: Any, passed: bool | None) -> None:
    promoted(conditional, data_validation=True)
    if passed is not None:
        conditional.entry(
            "data.validated",
            {
                "dataset": "to_score",
                "sha256": "sha256:" + "4" * 64,
                "passed": passed,
                "evidence_sha256": "sha256:" + "5" * 64,
            },
            source=Source("retail_pd", "run-2", "validate_data", -1, 1),
        )
    if passed:
        admit(conditional, ANY)
        return
    with pytest.raises(GuardRefusedError, match="validated in this run"):
        admit(conditional, ANY)
    assert ("to_score failed" if passed is False else "none were") in refusal(conditional)
    use = conditional.use("named", "run-2")
    with pytest.raises(GuardRefusedError, match="validated in this run"):
        check_use(conditional.gov, lambda: conditional.registry, use, "model.scored")


def test_data_that_passed_and_then_failed_have_not_passed(conditional: Any) -> None:
    promoted(conditional, data_validation=True)
    for passed in (True, False):
        conditional.validate_data(passed=passed)
    with pytest.raises(GuardRefusedError, match="development failed"):
        admit(conditional, ANY, run="run-1")


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.WARN])
def test_below_enforce_a_broken_condition_is_on_record_and_passes(
    conditional: Any, mode: Mode
) -> None:
    conditional.with_inventory(mode=mode)
    promoted(conditional, max_rows_per_run=1)
    admit(conditional, ANY)
    assert "1 rows in one run" in refusal(conditional)


def test_without_conditions_nothing_is_noted_and_nothing_asked(conditional: Any) -> None:
    promoted(conditional)
    with model_in_use(conditional.gov, conditional.registry, conditional.use("score")) as model:
        admission = Admission(conditional.gov, model)
        assert admission.files() == model.path
        admission.admit(Rows(10**9, {}))
    check_use(conditional.gov, lambda: conditional.registry, conditional.use("x"), "model.scored")
    assert conditional.kinds("model.admitted", "guard.refused") == []


def test_a_granted_entry_that_hides_the_conditions_lifts_none(conditional: Any) -> None:
    """A task writes the summary; the guard counts the votes."""
    standing = promoted(conditional, max_rows_per_run=1)
    (granted,) = conditional.kinds("approval.granted")
    conditional.entry("approval.granted", {**granted.body}, version=standing.request.version)
    with pytest.raises(GuardRefusedError):
        admit(conditional, ANY)


def test_what_a_task_reports_is_bound_too_where_the_pack_counts_it(conditional: Any) -> None:
    conditional.with_pack("least_assurance: L1", "least_assurance: L0")
    conditional.validate_model("under the other pack")
    request = conditional.ask()
    for who in ("olivia", "victor"):
        conditional.clock.moment += timedelta(seconds=1)
        told = Answer(
            Choice.APPROVE_WITH_CONDITIONS,
            str(request.digest),
            "looked at the evidence",
            Person(who, who),
            conditional.clock.now(),
            Conditions(max_rows_per_run=7),
        )
        record_answer(conditional.gov, request, told, conditional.GATE)
    standing = standing_of(conditional.gov, conditional.gov.ledger.view(), request.digest)
    assert (standing.decision, standing.count.conditions.max_rows_per_run) == (Decision.GRANTED, 7)
