"""May this model version be used, here and now? Every promotion and guarded task asks this.

Everything is recounted from the signed ledger and from the very bytes that will be used. Nothing is
taken from XCom, from task states or from an entry that says "granted".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_mlgov.errors import (
    ArtefactError,
    GuardRefusedError,
    MlgovError,
)
from airflow_mlgov.policy.tally import Decision, tally
from airflow_mlgov.records.canonical import signable_text
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.approvals import Standing, Use, standings
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.findings import FINDING_REMEDY, high_findings
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, LedgerView, SealedEntry
from airflow_mlgov.service.ports import Registry, RegistryVersion
from airflow_mlgov.service.stop import is_revoked, stop_in_force

MAX_REASON = 1000
"""Characters of a reason or target that an entry keeps."""

STOPPED = "stopped"
"""The check that no mode lets pass: a stop is an order, not a rule on trial."""

ASK = "Ask for approval in a run of its own (ApprovalGateOperator) and let the seats be filled."


@dataclass(frozen=True, slots=True)
class Clearance:
    """A use that every check has passed.

    Attributes:
        use: Where it may be used.
        version: Manifest digest of the version that may be used.
        approval: The approval that it rests on.
    """

    use: Use
    version: Digest
    approval: Standing


def clear_promotion(gov: Governance, view: LedgerView, use: Use, version: Digest) -> Clearance:
    """Return the approval that this promotion may consume.

    It must be granted and unused, or used by this very promotion, so that the retry of one that was
    killed halfway completes it. A run that asked for approval itself has only its own answer.

    Args:
        gov: Governance.
        view: Verified ledger.
        use: The task that wants to promote.
        version: Manifest digest of what it wants to promote.

    Raises:
        GuardRefusedError: A check failed; a retry does not help.
    """
    refuse_stopped(view, use.model)
    _refuse_other_dag(gov, use)
    granted = _granted(view, _asked(gov, view, use, version), use, version)
    own = [standing for standing in granted if standing.used_by == without_try(use)]
    unused = [standing for standing in granted if standing.used_by is None]
    if not own and not unused:
        used_by = granted[-1].used_by
        where = (
            f", by run {used_by.source.run_id!r} of {used_by.source.dag_id!r}" if used_by else ""
        )
        raise GuardRefusedError(
            "consumed", f"The approval of version {version} was used already{where}.", remedy=ASK
        )
    approval = (own or unused)[-1]
    if own:
        refuse_replaced(view, use, approval.request.digest)
    _refuse_open_high_findings(gov, view, use, version)
    return _still_holds(gov, use, version, approval)


def clear_scoring(gov: Governance, view: LedgerView, use: Use, version: Digest) -> Clearance:
    """Return the approval under which a version is in use.

    Args:
        gov: Governance.
        view: Verified ledger.
        use: The task that wants to score; the newest promotion on record must have pointed its
            alias at this version.
        version: The version that the alias points to.

    Raises:
        GuardRefusedError: A check failed; a retry does not help.
    """
    refuse_stopped(view, use.model)
    asked = standings(gov, view, model=use.model, version=version, target=use.target)
    granted = _granted(view, asked, use, version)
    promoted = [approval for approval in granted if approval.used_by is not None]
    if not promoted:
        raise GuardRefusedError(
            "promotion",
            f"Version {version} is approved for {use.target!r} but no promotion has used that "
            "approval.",
            remedy=_PROMOTE,
        )
    refuse_moved_alias(view, use, version)
    return _still_holds(gov, use, version, promoted[-1])


def clear_approval(gov: Governance, view: LedgerView, use: Use, version: Digest) -> Clearance:
    """Return the newest approval of a version, if it is in force.

    In force is what some guard would let pass now: unused, it may be consumed by a promotion; used,
    its promotion was not replaced by another since.

    Args:
        gov: Governance.
        view: Verified ledger.
        use: For which model and target; its task and alias do not matter.
        version: Manifest digest.

    Raises:
        GuardRefusedError: It is not; a retry does not help.
    """
    refuse_stopped(view, use.model)
    asked = standings(gov, view, model=use.model, version=version, target=use.target)
    approval = _granted(view, asked, use, version)[-1]
    if approval.used_by is None:
        _refuse_open_high_findings(gov, view, use, version)
    else:
        refuse_replaced(view, approval.used_by, approval.request.digest)
    return _still_holds(gov, use, version, approval)


def refuse_stopped(view: LedgerView, model: str) -> None:
    """Refuse whatever is to be done with a stopped model.

    Raises:
        GuardRefusedError: It was stopped and not resumed since; a retry does not help.
    """
    stop = stop_in_force(view, model)
    if stop is not None:
        raise GuardRefusedError(
            STOPPED,
            f"Model {model!r} was stopped {to_text(stop.at)} (ledger entry {stop.index}).",
            remedy="The model's owner, or somebody with a seat in its policy pack, can resume it "
            "through the api-server once the reason is gone.",
        )


def newest_promotion(view: LedgerView, use: Use) -> SealedEntry | None:
    """Return the last promotion on record to a use's target and alias, or None."""
    promotions = [
        entry
        for entry in view.select("model.promoted", model=use.model)
        if (entry.body["target"], entry.body["alias"]) == (use.target, use.alias)
    ]
    return promotions[-1] if promotions else None


def verified_files(
    registry: Registry, version: RegistryVersion, expected: Digest, into: Path
) -> Path:
    """Fetch a model to a private directory and return it, if its bytes are the expected ones.

    The caller uses the returned bytes and no others: what was checked is what is used.

    Args:
        registry: Where the version lives.
        version: The version to fetch.
        expected: Digest of the approved manifest.
        into: Existing private directory.

    Raises:
        GuardRefusedError: The bytes are others; a retry does not help.
    """
    try:
        path = registry.fetch(version, into)
        found = hash_directory(path).digest
    except ArtefactError as error:
        raise GuardRefusedError("digest", error.problem, remedy=_ALTERED) from error
    if found != expected:
        raise GuardRefusedError(
            "digest",
            f"{version.uri} holds {found}, but {expected} was approved.",
            remedy=_ALTERED,
        )
    return path


@contextmanager
def refusals_on_record(gov: Governance, use: Use, version: Digest | None) -> Iterator[None]:
    """Write ``guard.refused`` before a refusal leaves the service.

    Raises:
        GuardRefusedError: What was refused; also for a ledger, approval, rule or registry that does
            not verify. A retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
        RegistryUnavailableError: The registry cannot be reached; a retry may help.
    """
    try:
        yield
    except GuardRefusedError as refusal:
        record_refusal(gov, use, version, refusal)
        raise
    except MlgovError as error:
        if error.retryable:
            raise
        translated = GuardRefusedError(error.code, error.problem, remedy=error.remedy)
        record_refusal(gov, use, version, translated)
        raise translated from error


def record_refusal(
    gov: Governance, use: Use, version: Digest | None, refusal: GuardRefusedError
) -> None:
    """Put a refusal on record; each attempt is an entry of its own."""
    source = use.source
    at = to_text(gov.clock.now())
    receipt = gov.ledger.append(
        EntryDraft(
            kind="guard.refused",
            model=use.model if use.model in gov.inventory else "",
            version=version,
            body={
                "check": refusal.check,
                "reason": signable_text(refusal.reason, MAX_REASON),
                "target": signable_text(use.target, MAX_REASON),
            },
            identity=(*map(str, source.task), str(source.try_number), refusal.check, at),
            source=source,
        )
    )
    gov.ledger.seal(receipt)


def _refuse_other_dag(gov: Governance, use: Use) -> None:
    entry = gov.model(use.model)
    if entry.promoted_by and use.source.dag_id not in entry.promoted_by:
        raise GuardRefusedError(
            "dag",
            f"DAG {use.source.dag_id!r} may not promote model {use.model!r}; the inventory lets "
            f"these: {', '.join(entry.promoted_by)}.",
            remedy=f"Promote it in one of them, or add the DAG to 'promoted_by' in {entry.file}.",
        )


def without_try(use: Use) -> Use:
    """Return a use as every try of its task has it."""
    return replace(use, source=replace(use.source, try_number=0))


_PROMOTE = (
    "Promote it with PromoteModelOperator; an alias that was moved by hand counts for nothing."
)
_ALTERED = "The files were changed after approval: restore them from a copy, or train, validate "
"and ask anew."


def _asked(gov: Governance, view: LedgerView, use: Use, version: Digest) -> list[Standing]:
    """Return the requests that a promotion may rest on: its own run's, else everybody's."""
    found = standings(gov, view, model=use.model, version=version, target=use.target)
    run = use.source.dag_id, use.source.run_id
    own = [s for s in found if (s.request.dag_id, s.request.run_id) == run]
    return own or found


def _granted(view: LedgerView, asked: list[Standing], use: Use, version: Digest) -> list[Standing]:
    granted = [standing for standing in asked if standing.decision is Decision.GRANTED]
    in_force = [standing for standing in granted if not is_revoked(view, standing.request)]
    if in_force:
        return in_force
    if granted or (asked and is_revoked(view, asked[-1].request)):
        raise GuardRefusedError(
            "revoked",
            f"The approval of version {version} for {use.target!r} was revoked.",
            remedy=ASK,
        )
    if asked:
        problem = _why_not_granted(asked[-1])
    else:
        problem = (
            f"Nobody was asked to approve version {version} of model {use.model!r} for "
            f"{use.target!r}."
        )
    raise GuardRefusedError("approval", problem, remedy=ASK)


def refuse_moved_alias(view: LedgerView, use: Use, version: Digest) -> None:
    """Refuse a version that the last promotion on record did not point the alias to."""
    newest = newest_promotion(view, use)
    if newest is None or newest.version != version:
        last = f"of {newest.version}" if newest else "none"
        raise GuardRefusedError(
            "alias",
            f"Alias {use.alias!r} points to version {version}, but the last promotion to it on "
            f"record is {last}.",
            remedy=_PROMOTE,
        )


def refuse_replaced(view: LedgerView, use: Use, rests_on: Digest) -> None:
    """Refuse to repeat a promotion that was completed and replaced by another since."""
    request = str(rests_on)
    done = [
        entry
        for entry in view.select("model.promoted", model=use.model)
        if (entry.body["request_sha256"], entry.body["alias"]) == (request, use.alias)
    ]
    newest = newest_promotion(view, use)
    if done and newest is not None and newest.index > done[-1].index:
        raise GuardRefusedError(
            "consumed",
            f"The promotion was completed, and alias {use.alias!r} was moved on since.",
            remedy=ASK,
        )


def _refuse_open_high_findings(
    gov: Governance, view: LedgerView, use: Use, version: Digest
) -> None:
    high = high_findings(view, use.model, version, gov.clock.now())
    if high:
        raise GuardRefusedError(
            "findings",
            f"Version {version} has open High findings: {', '.join(high)}.",
            remedy=FINDING_REMEDY,
        )


def _why_not_granted(standing: Standing) -> str:
    request = standing.request
    if standing.decision is Decision.DENIED:
        denied = f"The request to approve version {request.version} for {request.target!r}"
        return f"{denied} was denied: {standing.denied_because}."
    seats = ", ".join(standing.open_seats)
    return f"Version {request.version} is not approved for {request.target!r}; open seats: {seats}."


def _still_holds(gov: Governance, use: Use, version: Digest, approval: Standing) -> Clearance:
    expires_at = approval.expires_at
    if expires_at is None or gov.clock.now() >= expires_at:
        when = to_text(expires_at) if expires_at else "at once"
        raise GuardRefusedError(
            "expiry", f"The approval of version {version} ended {when}.", remedy=ASK
        )
    _refuse_ended_policy(gov, use, approval)
    return Clearance(use, version, approval)


def _refuse_ended_policy(gov: Governance, use: Use, approval: Standing) -> None:
    """Refuse an approval under a pack that the one in force does not let stand.

    An earlier pack is vouched for by the pack in force alone, which no task can write: a request
    could name any pack. Where it is not vouched for, its votes must satisfy the pack in force.
    """
    pack = gov.pack_for(gov.model(use.model))
    earlier = approval.pack.digest
    if pack.digest == earlier:
        return
    if pack.existing_approvals == "keep":
        if earlier in pack.supersedes:
            return
        if tally(pack, approval.votes, approval.electorate).decision is Decision.GRANTED:
            return
    raise GuardRefusedError(
        "policy",
        f"The approval was given under policy {earlier}; policy pack {pack.id!r} in force "
        f"({pack.digest}) does not let it stand.",
        remedy=f"{ASK} Or name the earlier pack under 'supersedes' of the pack in force.",
    )
