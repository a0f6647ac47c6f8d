"""Past requests under another pack, on a real ledger."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlgov.errors import ApprovalDeniedError
from airflow_mlgov.policy.pack import PolicyPack
from airflow_mlgov.policy.pack_file import parse_pack
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.service.try_pack import Trial, try_pack


def changed(world: Any, *changes: tuple[str, str]) -> PolicyPack:
    source = world.gov.packs["retail_credit"].source
    for old, new in changes:
        assert old.encode() in source
        source = source.replace(old.encode(), new.encode())
    return parse_pack(source, "new.yaml")


def try_one(world: Any, *changes: tuple[str, str], model: str | None = None) -> Trial:
    size = world.gov.ledger.view().checkpoint.size
    (trial,) = try_pack(world.gov, world.gov.ledger.view(), changed(world, *changes), model)
    assert world.gov.ledger.view().checkpoint.size == size
    return trial


@pytest.fixture
def granted(candidate: Any) -> Any:
    candidate.approve(candidate.ask())
    return candidate


def test_the_same_rules_decide_the_same(granted) -> None:
    trial = try_one(granted)
    assert (trial.would, trial.because, trial.differs) == (Decision.GRANTED, (), False)


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        (
            [("[olivia]", "[rita]")],
            (
                "the vote of olivia does not count: the voter is on no seat of the policy pack",
                "the seat model_owner lacks 1",
            ),
        ),
        (
            [("comment_min_length: 10", "comment_min_length: 200")],
            (
                "the vote of olivia does not count: the comment is shorter than 200 characters",
                "the vote of victor does not count: the comment is shorter than 200 characters",
                "the seat model_owner lacks 1",
                "the seat independent_validator lacks 1",
            ),
        ),
    ],
)
def test_why_a_stricter_pack_would_not_have_granted(granted, changes, because) -> None:
    trial = try_one(granted, *changes)
    assert (trial.standing.decision, trial.would) == (Decision.GRANTED, Decision.OPEN)
    assert trial.because == because


def test_what_a_looser_pack_would_have_granted(candidate) -> None:
    """An answer that the api-server turned away is on record with what it was."""
    request = candidate.ask()
    candidate.answer(request, "rita")
    candidate.answer(request, "rita", digest=Digest.of(b"old form"))
    candidate.answer(request, "victor")
    candidate.answer(request, "victor")
    trial = try_one(candidate, ("[olivia]", "[olivia, rita]"))
    assert (trial.standing.decision, trial.would) == (Decision.OPEN, Decision.GRANTED)
    assert trial.because == ("the vote of rita counts", "all seats are filled")


def test_time_that_runs_out(candidate) -> None:
    request = candidate.ask()
    candidate.answer(request, "olivia")
    trial = try_one(candidate, ("valid_days:", "decide_within_days: 1\nvalid_days:"))
    assert not trial.differs
    candidate.clock.moment = candidate.clock.moment.replace(month=12)
    trial = try_one(candidate, ("valid_days:", "decide_within_days: 1\nvalid_days:"))
    assert (trial.would, trial.because[-1]) == (Decision.DENIED, "nobody decided in time")


def test_a_rejection_without_a_veto(candidate) -> None:
    with pytest.raises(ApprovalDeniedError):
        candidate.answer(candidate.ask(), "victor", Choice.REJECT)
    seat = "role: independent_validator\n"
    users = ("[victor, erin]", "[victor, rita]")
    trial = try_one(candidate, (seat, f"{seat}    veto: false\n"), users)
    assert (trial.standing.decision, trial.would) == (Decision.DENIED, Decision.OPEN)


def test_only_requests_under_the_same_id_or_of_the_model_that_is_named(granted) -> None:
    other = changed(granted, ("id: retail_credit", "id: other"))
    view = granted.gov.ledger.view()
    assert try_pack(granted.gov, view, other) == []
    assert len(try_pack(granted.gov, view, other, "retail_pd")) == 1


def test_a_request_that_could_not_have_been_asked(granted) -> None:
    demand = "required_evidence: [model.trained]\n"
    text = granted.gov.packs["retail_credit"].source.decode()
    (line,) = [found for found in text.splitlines() if found.startswith("required_evidence")]
    granted.with_pack(line + "\n", demand)
    granted.validate_model(note="again")
    granted.ask()
    trials = try_pack(granted.gov, granted.gov.ledger.view(), parse_pack(text.encode(), "new.yaml"))
    assert [trial.would for trial in trials] == [Decision.GRANTED, None]
    assert trials[1].because == ("it lacks evidence: data.validated",)
