"""May this model version be used, here and now? Every promotion and guarded task asks this.

Everything is recounted from the signed ledger and from the very bytes that will be used. Nothing is
taken from XCom, from task states or from an entry that says "granted".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_mlgov.errors import (
    ArtefactError,
    EvidenceError,
    GuardRefusedError,
    LedgerIntegrityError,
    VersionNotFoundError,
)
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import Standing, standings
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.service.ports import Registry, RegistryVersion

ASK = "Ask for approval in a run of its own (ApprovalGateOperator) and let the seats be filled."


@dataclass(frozen=True, slots=True)
class Use:
    """Where somebody wants to use a model.

    Attributes:
        model: Inventory id.
        target: Environment.
        source: The task that wants to.
    """

    model: str
    target: str
    source: Source


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


def clear_promotion(gov: Governance, use: Use, version: Digest) -> Clearance:
    """Return the approval that this promotion may consume.

    It must be granted and unused; or used by this very dag, run, task and target, so that the retry
    of a promotion that was killed halfway completes it.

    Raises:
        GuardRefusedError: A check failed; a retry does not help.
    """
    granted = _granted(gov, use, version)
    own = use.source.dag_id, use.source.run_id, use.source.task_id, use.source.map_index
    for approval in reversed(granted):
        used_by = approval.used_by
        if (
            used_by is None
            or (used_by.dag_id, used_by.run_id, used_by.task_id, used_by.map_index) == own
        ):
            return _still_holds(gov, use, version, approval)
    first = granted[-1].used_by
    where = f"run {first.run_id!r} of DAG {first.dag_id!r}" if first else "another promotion"
    raise GuardRefusedError(
        "consumed", f"The approval of version {version} was used already, by {where}.", remedy=ASK
    )


def clear_scoring(gov: Governance, use: Use, version: Digest, alias: str) -> Clearance:
    """Return the approval under which a version is in use.

    Args:
        gov: Governance.
        use: The task that wants to score.
        version: The version that the alias points to.
        alias: The registry's alias; the newest promotion on record must have pointed it at this
            version.

    Raises:
        GuardRefusedError: A check failed; a retry does not help.
    """
    granted = _granted(gov, use, version)
    promoted = [approval for approval in granted if approval.used_by is not None]
    if not promoted:
        raise GuardRefusedError(
            "promotion",
            f"Version {version} is approved for {use.target!r} but no promotion has used that "
            "approval.",
            remedy=_PROMOTE,
        )
    _refuse_moved_alias(gov, use, version, alias)
    return _still_holds(gov, use, version, promoted[-1])


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
    path = registry.fetch(version, into)
    try:
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
        GuardRefusedError: What was refused; also for a ledger, approval or registry that does not
            verify.
    """
    try:
        yield
    except (LedgerIntegrityError, EvidenceError, VersionNotFoundError) as error:
        refusal = GuardRefusedError(error.code, error.problem, remedy=error.remedy)
        record_refusal(gov, use, version, refusal)
        raise refusal from error
    except GuardRefusedError as refusal:
        record_refusal(gov, use, version, refusal)
        raise


def record_refusal(
    gov: Governance, use: Use, version: Digest | None, refusal: GuardRefusedError
) -> None:
    """Put a refusal on record; each attempt is an entry of its own."""
    source = use.source
    attempt = (
        source.dag_id,
        source.run_id,
        source.task_id,
        str(source.map_index),
        str(source.try_number),
    )
    receipt = gov.ledger.append(
        EntryDraft(
            kind="guard.refused",
            model=use.model,
            version=version,
            body={"check": refusal.check, "reason": refusal.reason, "target": use.target},
            identity=(*attempt, refusal.check, to_text(gov.clock.now())),
            source=source,
        )
    )
    gov.ledger.seal(receipt)


_PROMOTE = (
    "Promote it with PromoteModelOperator; an alias that was moved by hand counts for nothing."
)
_ALTERED = "The files were changed after approval: restore them from a copy, or train, validate "
"and ask anew."


def _granted(gov: Governance, use: Use, version: Digest) -> list[Standing]:
    view = gov.ledger.view()
    found = standings(gov, view, model=use.model, version=version, target=use.target)
    granted = [standing for standing in found if standing.decision is Decision.GRANTED]
    if granted:
        return granted
    if not found:
        problem = f"Nobody was asked to approve version {version} of model {use.model!r} for "
        f"{use.target!r}."
    else:
        problem = _why_not_granted(found[-1])
    raise GuardRefusedError("approval", problem, remedy=ASK)


def _refuse_moved_alias(gov: Governance, use: Use, version: Digest, alias: str) -> None:
    promotions = [
        entry
        for entry in gov.ledger.view().select("model.promoted", model=use.model)
        if (entry.body["target"], entry.body["alias"]) == (use.target, alias)
    ]
    if promotions and promotions[-1].version != version:
        raise GuardRefusedError(
            "alias",
            f"Alias {alias!r} points to version {version}, but the last promotion on record was of "
            f"{promotions[-1].version}.",
            remedy=_PROMOTE,
        )


def _why_not_granted(standing: Standing) -> str:
    request = standing.request
    if standing.decision is Decision.DENIED:
        return f"Version {request.version} was rejected for {request.target!r}."
    seats = ", ".join(
        f"{seat.seat.role} ({seat.open_count} open)"
        for seat in standing.count.seats
        if seat.open_count
    )
    return f"Version {request.version} is not approved for {request.target!r}; open seats: {seats}."


def _still_holds(gov: Governance, use: Use, version: Digest, approval: Standing) -> Clearance:
    expires_at = approval.expires_at
    if expires_at is None or gov.clock.now() >= expires_at:
        when = to_text(expires_at) if expires_at else "at once"
        raise GuardRefusedError(
            "expiry", f"The approval of version {version} ended {when}.", remedy=ASK
        )
    pack = gov.pack_for(gov.model(use.model))
    if pack.digest != approval.pack.digest and pack.existing_approvals == "end":
        raise GuardRefusedError(
            "policy",
            f"Policy pack {pack.id!r} ({pack.digest}) ends approvals given under "
            f"{approval.pack.digest}.",
            remedy=ASK,
        )
    return Clearance(use, version, approval)
