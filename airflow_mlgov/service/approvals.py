"""Where requests stand, always recounted from the ledger.

Nothing here trusts an ``approval.granted`` entry: a task could have written it. Votes are read in
ledger order and counted under the very pack that the request names.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_mlgov.errors import EvidenceError, LedgerIntegrityError
from airflow_mlgov.policy.pack import PolicyPack
from airflow_mlgov.policy.pack_file import parse_pack
from airflow_mlgov.policy.tally import Decision, Electorate, Tally, tally
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import ApprovalRequest, Assurance, Choice, Vote
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView, SealedEntry

DEVELOPER_FIELD = "developer."
"""People of a request are committed as ``requester`` and ``developer.0``, ``developer.1`` ..."""

_ASSURANCE = {KeyRole.WRITER: Assurance.L0, KeyRole.ATTESTOR: Assurance.L1}


@dataclass(frozen=True, slots=True)
class Standing:
    """A request and how far it has come.

    Attributes:
        request: What was asked.
        entry: The ledger entry that asked.
        pack: The pack that it named, read by digest.
        electorate: Who asked and who built.
        count: The votes, counted.
        used_by: The one use that consumed the approval (``dag_id``, ``run_id``, ``task_id``,
            ``map_index``), or None.
    """

    request: ApprovalRequest
    entry: SealedEntry
    pack: PolicyPack
    electorate: Electorate
    count: Tally
    used_by: Source | None

    @property
    def decision(self) -> Decision:
        """Open, granted or denied."""
        return self.count.decision

    @property
    def granted_at(self) -> datetime | None:
        """When the vote that filled the last seat was cast; None unless granted."""
        deciding = self.count.decided_by
        return deciding.cast_at if deciding and self.decision is Decision.GRANTED else None

    @property
    def expires_at(self) -> datetime | None:
        """When the approval ends; None unless granted."""
        return self.granted_at + timedelta(days=self.pack.valid_days) if self.granted_at else None


def standings(
    gov: Governance,
    view: LedgerView,
    *,
    model: str | None = None,
    version: Digest | None = None,
    target: str | None = None,
) -> list[Standing]:
    """Return every request that matches, in ledger order.

    Args:
        gov: Governance to read evidence with.
        view: Verified ledger.
        model: Only requests for this model.
        version: Only requests for this version.
        target: Only requests for this environment.

    Raises:
        LedgerIntegrityError: A request does not read as one; a retry does not help.
        EvidenceError: The pack that a request names is missing or altered; a retry does not help.
    """
    asked = view.select("approval.requested", model=model, version=version)
    votes = _votes_by_request(view, model)
    uses = _uses_by_request(view, model)
    found = []
    for entry in asked:
        request = request_of(entry)
        if target is None or request.target == target:
            key = request.digest
            found.append(_standing(gov, entry, request, votes.get(key, []), uses.get(key)))
    return found


def standing_of(gov: Governance, view: LedgerView, request: Digest) -> Standing | None:
    """Return where one request stands, or None if the ledger does not hold it."""
    matching = [s for s in standings(gov, view) if s.request.digest == request]
    return matching[0] if matching else None


def open_requests(gov: Governance, view: LedgerView, model: str | None = None) -> list[Standing]:
    """Return the requests that still wait for people."""
    return [s for s in standings(gov, view, model=model) if s.decision is Decision.OPEN]


def approval_of(
    gov: Governance, view: LedgerView, *, model: str, version: Digest, target: str
) -> Standing | None:
    """Return the newest granted request for a version and target, or None."""
    granted = [
        s
        for s in standings(gov, view, model=model, version=version, target=target)
        if s.decision is Decision.GRANTED
    ]
    return granted[-1] if granted else None


def request_of(entry: SealedEntry) -> ApprovalRequest:
    """Return the request that an ``approval.requested`` entry holds.

    Raises:
        LedgerIntegrityError: It is malformed, or its digest is not the one stated.
    """
    try:
        request = ApprovalRequest.from_json(entry.body["request"])
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerIntegrityError(
            f"Entry {entry.index} holds no readable request: {error!r}."
        ) from error
    consistent = (
        str(request.digest) == entry.body["request_sha256"]
        and request.model == entry.model
        and request.version == entry.version
    )
    if not consistent:
        raise LedgerIntegrityError(
            f"Entry {entry.index} asks for something else than its digest states."
        )
    return request


def pack_of(gov: Governance, request: ApprovalRequest) -> PolicyPack:
    """Return the pack that a request names, from its bytes in the evidence store.

    Raises:
        EvidenceError: The bytes are missing or altered; a retry does not help.
    """
    try:
        return parse_pack(gov.evidence.get(request.policy), f"policy pack {request.policy}")
    except EvidenceError as error:
        raise EvidenceError(
            f"The policy pack {request.policy} of a request cannot be read: {error.problem}",
            remedy=error.remedy,
        ) from error


def _standing(
    gov: Governance,
    entry: SealedEntry,
    request: ApprovalRequest,
    votes: list[Vote],
    used_by: Source | None,
) -> Standing:
    pack = pack_of(gov, request)
    electorate = _electorate(entry)
    later = [vote for vote in votes if vote.index > entry.index]
    return Standing(request, entry, pack, electorate, tally(pack, later, electorate), used_by)


def _electorate(entry: SealedEntry) -> Electorate:
    developers: list[str] = []
    number = 0
    while (person := entry.person(f"{DEVELOPER_FIELD}{number}")) is not None:
        developers += [person.id, person.name]
        number += 1
    return Electorate(entry.person("requester"), tuple(dict.fromkeys(developers)))


def _votes_by_request(view: LedgerView, model: str | None) -> dict[Digest, list[Vote]]:
    votes: dict[Digest, list[Vote]] = {}
    for entry in view.select("approval.voted", model=model):
        voter = entry.person("voter")
        if voter is None:
            continue
        vote = Vote(
            index=entry.index,
            request=Digest.parse(entry.body["request_sha256"]),
            voter=Person(voter.id, voter.name),
            choice=Choice(entry.body["choice"]),
            comment=entry.text("comment") or "",
            assurance=_ASSURANCE[entry.signed_by],
            cast_at=entry.at,
        )
        votes.setdefault(vote.request, []).append(vote)
    return votes


def _uses_by_request(view: LedgerView, model: str | None) -> dict[Digest, Source]:
    uses: dict[Digest, Source] = {}
    for entry in view.select("approval.consumed", model=model):
        use = entry.body["use"]
        source = Source(use["dag_id"], use["run_id"], use["task_id"], use["map_index"])
        uses.setdefault(Digest.parse(entry.body["request_sha256"]), source)
    return uses
