"""Promotion: verify the approval, consume it once, move the alias."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from airflow_mlgov.errors import GuardRefusedError, LedgerConflictError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.allow_use import (
    AnyClearance,
    allow_promotion,
    basis_of,
    rests_on,
)
from airflow_mlgov.service.approvals import Use, requests
from airflow_mlgov.service.break_glass import glass_in_force
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, SealedReceipt
from airflow_mlgov.service.ports import Registry, RegistryVersion
from airflow_mlgov.service.verify_use import (
    ASK,
    Clearance,
    newest_promotion,
    refusals_on_record,
    verified_files,
)


@dataclass(frozen=True, slots=True)
class Promotion:
    """A promotion that was made.

    Attributes:
        clearance: What it rests on.
        version: Where the version lives.
        receipt: Of ``model.promoted``, under a signed checkpoint.
    """

    clearance: AnyClearance
    version: RegistryVersion
    receipt: SealedReceipt


def version_asked_by_run(gov: Governance, use: Use) -> Digest:
    """Return the version that the gate of the same run asked about, or that glass was broken for.

    Raises:
        GuardRefusedError: The run asked for no approval, and nobody's emergency is in force; a
            retry does not help.
    """
    view = gov.ledger.view()
    for _, request in reversed(list(requests(view, model=use.model))):
        same_run = (request.dag_id, request.run_id) == (use.source.dag_id, use.source.run_id)
        if same_run and request.target == use.target:
            return request.version
    now = gov.clock.now()
    glass = glass_in_force(view, model=use.model, target=use.target, version=None, now=now)
    if glass and glass[-1].entry.version:
        return glass[-1].entry.version
    raise GuardRefusedError(
        "approval",
        f"Run {use.source.run_id!r} of DAG {use.source.dag_id!r} asked for no approval of "
        f"{use.model!r} for "
        f"{use.target!r}.",
        remedy=ASK,
    )


def promote(
    gov: Governance, registry: Registry, use: Use, version: Digest | None = None
) -> Promotion:
    """Move an alias to a version that is approved, or that glass was broken for.

    Killed between any two of its steps, the same call again completes the same promotion.

    Args:
        gov: Governance.
        registry: Where the version lives.
        use: Which model, for which environment, by which task, and the alias to move.
        version: Manifest digest; None for the version that the gate of the same run asked about,
            or else that glass was broken for.

    Raises:
        GuardRefusedError: A check failed, and the refusal is on record; a retry does not help.
        RegistryUnavailableError: The registry cannot be reached; a retry may help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    with refusals_on_record(gov, use, version):
        asked = version or version_asked_by_run(gov, use)
    with refusals_on_record(gov, use, asked):
        clearance = allow_promotion(gov, gov.ledger.view(), use, asked)
        registered = registry.find(gov.model(use.model).registered_name, asked)
        with tempfile.TemporaryDirectory(prefix="mlgov-promote-") as private:
            verified_files(registry, registered, asked, Path(private))
        _consume(gov, clearance)
    registry.set_alias(registered, use.alias)
    receipt = _record_promotion(gov, clearance, registered)
    _settle_alias(gov, registry, use, registered)
    return Promotion(clearance, registered, receipt)


def _consume(gov: Governance, clearance: AnyClearance) -> None:
    use, source = clearance.use, clearance.use.source
    kind = "approval.consumed" if isinstance(clearance, Clearance) else "breakglass.consumed"
    draft = EntryDraft(
        kind=kind,
        model=use.model,
        version=clearance.version,
        body={
            **basis_of(clearance),
            "target": use.target,
            "alias": use.alias,
            "use": {
                "dag_id": source.dag_id,
                "run_id": source.run_id,
                "task_id": source.task_id,
                "map_index": source.map_index,
            },
        },
        identity=(str(rests_on(clearance)), use.target),
        source=source,
    )
    try:
        gov.ledger.seal(gov.ledger.append(draft))
    except LedgerConflictError as error:
        raise GuardRefusedError(
            "consumed",
            f"Another promotion used what opened version {clearance.version} first.",
            remedy=ASK,
        ) from error


def _record_promotion(
    gov: Governance, clearance: AnyClearance, version: RegistryVersion
) -> SealedReceipt:
    use = clearance.use
    draft = EntryDraft(
        kind="model.promoted",
        model=use.model,
        version=clearance.version,
        body={
            **basis_of(clearance),
            "target": use.target,
            "registry": version.registry,
            "registered_name": version.name,
            "registry_version": version.version,
            "alias": use.alias,
        },
        identity=(str(rests_on(clearance)), use.target, version.registry, use.alias),
        source=use.source,
    )
    return gov.ledger.seal(gov.ledger.append(draft))


def _settle_alias(gov: Governance, registry: Registry, use: Use, mine: RegistryVersion) -> None:
    """Of two promotions at once, let the alias end where the last one on record put it."""
    newest = newest_promotion(gov.ledger.view(), use)
    if newest is not None and newest.version == mine.manifest:
        registry.set_alias(mine, use.alias)
