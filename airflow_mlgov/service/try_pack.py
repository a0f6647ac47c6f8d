"""What a policy pack would have decided on requests that were asked under others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from airflow_mlgov.policy.pack import PolicyPack
from airflow_mlgov.policy.tally import VOTED_BEFORE, Decision, Tally, tally
from airflow_mlgov.records.governance import Vote
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.approvals import Standing, standings, vote_of
from airflow_mlgov.service.findings import ERASED
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView


@dataclass(frozen=True, slots=True)
class Trial:
    """A request, counted again under another pack.

    Attributes:
        standing: Where it stands under the pack that it names.
        would: What the other pack makes of the same votes; None if it could not have been asked.
        because: Why the two differ; empty if they do not.
    """

    standing: Standing
    would: Decision | None
    because: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the other pack decides otherwise."""
        return self.would is not self.standing.decision


def try_pack(
    gov: Governance, view: LedgerView, pack: PolicyPack, model: str | None = None
) -> list[Trial]:
    """Return every request that was asked under a pack of the same id, counted under this one.

    Only votes are counted again: tests are not held against the other pack's plan, since a
    validation stands under the plan that was fixed before it.

    Args:
        gov: Governance to read evidence with.
        view: Verified ledger.
        pack: The pack to try.
        model: Only requests for this model, whatever the id of their pack.
    """
    asked = standings(gov, view, model=model)
    return [_trial(view, pack, found) for found in asked if model or found.pack.id == pack.id]


def _trial(view: LedgerView, pack: PolicyPack, standing: Standing) -> Trial:
    missing = set(pack.required_evidence) - {kind for kind, _ in standing.request.evidence}
    if missing:
        why = f"it lacks evidence: {', '.join(sorted(missing))}"
        return Trial(standing, None, (why,))
    turned_away = _turned_away(view, standing)
    votes = sorted((*standing.votes, *turned_away), key=lambda vote: vote.index)
    count = tally(pack, votes, standing.electorate, standing.counted_at)
    if count.decision is standing.decision:
        return Trial(standing, count.decision, ())
    refused = {refused.vote for refused in standing.count.refused}.union(turned_away)
    return Trial(standing, count.decision, tuple(_reasons(votes, refused, count)))


def _turned_away(view: LedgerView, standing: Standing) -> list[Vote]:
    """Return the answers that the api-server refused because of the pack, in ledger order."""
    request = standing.request
    return [
        vote_of(entry)
        for entry in view.select(
            "approval.vote_refused", model=request.model, version=request.version
        )
        if entry.signed_by is KeyRole.ATTESTOR
        and entry.body["request_sha256"] == str(request.digest)
        and "choice" in entry.body
        # Who answers the same again after a vote has not answered twice.
        and entry.body["reasons"] != [VOTED_BEFORE]
    ]


def _reasons(votes: list[Vote], refused: set[Vote], would: Tally) -> Iterator[str]:
    """Yield what becomes of votes under the other pack that were counted, or were not."""
    broken = {found.vote: found.reasons for found in would.refused}
    for vote in votes:
        if vote in broken and vote not in refused:
            yield f"the vote of {_voter(vote)} does not count: {'; '.join(broken[vote])}"
        elif vote in refused and vote not in broken:
            yield f"the vote of {_voter(vote)} counts"
    yield from _ending(would)


def _ending(count: Tally) -> Iterator[str]:
    if count.decision is Decision.GRANTED:
        yield "all seats are filled"
    elif count.decided_by is not None:
        yield f"{_voter(count.decided_by)} ends it: {count.decided_by.choice}"
    else:
        for seat in count.open_seats:
            yield f"the seat {seat.seat.role} lacks {seat.open_count}"
    if count.decision is Decision.DENIED and count.decided_by is None:
        yield "nobody decided in time"


def _voter(vote: Vote) -> str:
    return vote.voter.name if vote.voter else ERASED
