"""Votes as the api-server sees them: who is signed in answers, before Airflow has the answer."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from airflow_mlgov.errors import LedgerUnavailableError, VoteRefusedError
from airflow_mlgov.policy.pack import PolicyPack
from airflow_mlgov.policy.tally import DECIDED_BEFORE, VOTED_BEFORE, Decision, tally
from airflow_mlgov.records.canonical import signable_text
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.conditions import NO_CONDITIONS, Conditions
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Assurance, Choice, Vote
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import Standing, standing_of
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, Receipt
from airflow_mlgov.service.vote import MAX_COMMENT, choice_of

SEAL_TIMEOUT_S = 20.0
"""How long an approver waits for a checkpoint over the vote: a gate counts what is sealed."""
MAX_ROLES, MAX_ROLE = 50, 128
"""Roles that are put on record, and characters of each."""
_REPEATED = frozenset({VOTED_BEFORE, DECIDED_BEFORE})


@dataclass(frozen=True, slots=True)
class Ballot:
    """An answer to a gate's form.

    Attributes:
        shown: Digest of the request that the form shows.
        gate: The task whose form it is.
        named: Digest that came back with the answer, as text.
        choice: None if it is no answer that our form offers.
        comment: What the person wrote.
        person: Who is signed in.
        counted: Ledger entries that the gate had read when it opened the form.
        has_ended: Whether the gate's task has ended, so that nothing waits for the answer.
        roles: Roles of the auth manager that the person holds.
        conditions: What the form's fields set.
        problem: What cannot be read in these fields; empty for nothing.
    """

    shown: Digest
    gate: Source
    named: str
    choice: Choice | None
    comment: str
    person: Person
    counted: int = 0
    has_ended: bool = False
    roles: tuple[str, ...] = ()
    conditions: Conditions = NO_CONDITIONS
    problem: str = ""


@dataclass(frozen=True, slots=True)
class CastVote:
    """A vote on record.

    Attributes:
        ballot: What was answered.
        standing: Where the request stood before.
        receipt: The entry's; None if the same vote stood there already and waits to be counted.
    """

    ballot: Ballot
    standing: Standing
    receipt: Receipt | None


def cast_vote(gov: Governance, ballot: Ballot) -> CastVote | None:
    """Put a vote on record under the attestor's key, if it counts; a refused one with its reasons.

    Args:
        gov: With the attestor's key.
        ballot: The answer.

    Returns:
        The vote, under a signed checkpoint; None if the ledger knows no such request of this task,
        so that it is no gate of ours, whatever its form says.

    Raises:
        VoteRefusedError: It does not count; what it breaks is on record. The same answer never
            will.
        LedgerUnavailableError: It could not be put on record, or under a checkpoint in time, so it
            does not count; a retry may help.
        ConfigurationError: This process does not hold the attestor's key; a retry does not help.
        LedgerIntegrityError: The ledger does not verify; a retry does not help.
    """
    view = gov.ledger.view()
    standing = standing_of(gov, view, ballot.shown)
    if standing is None or standing.entry.source.task != ballot.gate.task:
        return None
    vote = _vote_of(gov, standing, ballot, index=view.checkpoint.size)
    count = tally(standing.pack, (*standing.votes, vote), standing.electorate)
    unfit = _unfit(standing, ballot)
    reasons = unfit or [r for found in count.refused if found.vote is vote for r in found.reasons]
    if reasons and _REPEATED.issuperset(reasons) and _waits_to_be_counted(standing, ballot):
        return CastVote(ballot, standing, None)
    if reasons:
        # What another pack would have made of it (`try_pack`) can be told of an answer that is fit.
        answer = {} if unfit else _said(vote)
        refused = _draft(gov, standing, ballot, "approval.vote_refused", reasons=reasons, **answer)
        gov.ledger.append(refused, role=KeyRole.ATTESTOR)
        raise VoteRefusedError(reasons)
    seats = [seat.seat.role for seat in count.seats if vote in seat.votes]
    named = {**_said(vote), "seat": seats[0] if seats else ""}
    receipt = gov.ledger.append(
        _draft(gov, standing, ballot, "approval.voted", **named), role=KeyRole.ATTESTOR
    )
    cast = CastVote(ballot, standing, receipt)
    try:
        gov.ledger.seal(receipt, timeout_s=SEAL_TIMEOUT_S)
    except LedgerUnavailableError:
        void_vote(gov, cast, "no signed checkpoint covered it in time")
        raise
    return cast


def void_vote(gov: Governance, cast: CastVote, reason: str) -> None:
    """Put on record that a vote does not count, because Airflow did not take the answer.

    Args:
        gov: With the attestor's key.
        cast: From `cast_vote`; one that it found on record is left alone.
        reason: Why, in words that name nobody.

    Raises:
        LedgerUnavailableError: It could not be put on record; a retry may help.
    """
    if cast.receipt is None:
        return
    request = cast.standing.request
    draft = EntryDraft(
        kind="approval.vote_voided",
        model=request.model,
        version=request.version,
        body={
            "request_sha256": str(request.digest),
            "vote": cast.receipt.key,
            "reason": reason,
        },
        identity=(cast.receipt.key,),
        source=cast.standing.entry.source,
    )
    gov.ledger.append(draft, role=KeyRole.ATTESTOR)


def _vote_of(gov: Governance, standing: Standing, ballot: Ballot, index: int) -> Vote:
    return Vote(
        index=index,
        request=ballot.shown,
        voter=ballot.person,
        choice=ballot.choice or Choice.REJECT,
        comment=ballot.comment,
        assurance=Assurance.L1,
        cast_at=gov.clock.now(),
        roles=_roles(standing.pack, ballot.roles),
        conditions=ballot.conditions,
    )


def _said(vote: Vote) -> dict[str, Any]:
    return {**choice_of(vote.choice, vote.conditions), "roles": list(vote.roles)}


def _roles(pack: PolicyPack, held: tuple[str, ...]) -> tuple[str, ...]:
    """Return the roles to put on record, those that the pack names before others."""
    named = {role for seat in pack.seats for role in seat.roles}
    known = {signable_text(role, MAX_ROLE) for role in held}
    return tuple(sorted(sorted(known, key=lambda role: (role not in named, role))[:MAX_ROLES]))


def _unfit(standing: Standing, ballot: Ballot) -> list[str]:
    """Return why an answer is none to this request, whatever the policy pack says."""
    if ballot.choice is None:
        return ["it is no answer that the form offers"]
    if ballot.problem and ballot.choice.is_approval:
        return [ballot.problem]
    if _is_named_as_a_number(ballot.person):
        return ["the voter's user name is a number, and could be taken for another's user id"]
    if ballot.named.strip() != str(standing.request.digest):
        return ["the form was of another request: it was old; open it again"]
    if ballot.has_ended and standing.decision is Decision.OPEN:
        return ["the gate has ended, so nothing waits for an answer"]
    return []


def _is_named_as_a_number(person: Person) -> bool:
    """Whether a name that anybody may take at sign-up would pass for an id that a pack lists."""
    return person.id.isdecimal() and person.name.isdecimal() and person.id != person.name


def _waits_to_be_counted(standing: Standing, ballot: Ballot) -> bool:
    """Whether the same answer was put on record after the gate looked last.

    The api-server died before Airflow had it, or Airflow's reply was lost: the gate must be woken.
    """
    refused = [refused.vote for refused in standing.count.refused]
    return any(
        vote.voter == ballot.person
        and (vote.choice, vote.conditions) == (ballot.choice, ballot.conditions)
        and vote.index >= ballot.counted
        and vote not in refused
        for vote in standing.votes
    )


def _draft(
    gov: Governance, standing: Standing, ballot: Ballot, kind: str, **body: Any
) -> EntryDraft:
    request = standing.request
    return EntryDraft(
        kind=kind,
        model=request.model,
        version=request.version,
        body={
            "request_sha256": str(request.digest),
            "answered_at": to_text(gov.clock.now()),
            **body,
        },
        # Each answer is its own: whoever answers twice has answered twice.
        identity=(str(request.digest), uuid.uuid4().hex),
        people={"voter": ballot.person},
        texts={"comment": signable_text(ballot.comment, MAX_COMMENT)},
        source=standing.entry.source,
    )
