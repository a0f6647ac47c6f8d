"""Where the registry's aliases point, held against the promotions on record; and putting them back.

An approval that ended after its promotion leaves its alias where it is: every guard refuses it from
then on, and nobody has moved it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from airflow_mlgov.errors import GuardRefusedError, RegistryError, VersionNotFoundError
from airflow_mlgov.policy.inventory import InventoryEntry, Mode
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.governance import Severity
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import Use, standings
from airflow_mlgov.service.break_glass import break_glasses
from airflow_mlgov.service.discrepancies import (
    ALIAS,
    STATUS,
    UNCOUNTED,
    Discrepancy,
    Judged,
    Unchecked,
)
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, LedgerView, SealedEntry
from airflow_mlgov.service.ports import Registry, RegistryVersion
from airflow_mlgov.service.verify_use import clear_scoring, verified_files

USUAL_ALIAS = "champion"
"""What operators move and follow unless they are told otherwise."""


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias of a governed model.

    Attributes:
        entry: The model.
        name: The alias.
    """

    entry: InventoryEntry
    name: str


def governed_aliases(gov: Governance, view: LedgerView, model: str | None) -> list[Alias]:
    """Return the aliases that promotions on record moved, and the usual one where it is enforced.

    Where a mode below ``enforce`` adopts a model, its alias may be older than all promotions.

    Args:
        gov: Governance.
        view: Verified ledger.
        model: Inventory id; None for all of them.
    """
    moved = {(e.model, e.body["alias"]) for e in view.select("model.promoted")}
    usual = {(id_, USUAL_ALIAS) for id_, e in gov.inventory.items() if e.mode is Mode.ENFORCE}
    return [
        Alias(gov.inventory[of_model], name)
        for of_model, name in sorted(moved | usual)
        if of_model in gov.inventory and model in {None, of_model}
    ]


def compare_alias(gov: Governance, registry: Registry, alias: Alias) -> Judged | None:
    """Return what is wrong with an alias; None if nothing is, or if the registry has no such alias.

    What looks wrong is looked at twice: a promotion may come in between.

    Args:
        gov: Governance.
        registry: Where the model's versions live.
        alias: Which.

    Raises:
        RegistryUnavailableError: The registry cannot be reached; a retry may help.
        LedgerUnavailableError: The ledger cannot be read; a retry may help.
    """
    found = None
    for _ in range(2):
        try:
            pointed = registry.by_alias(alias.entry.registered_name, alias.name)
        except VersionNotFoundError:
            return None
        except RegistryError as error:
            if error.retryable:
                raise
            what = f"Alias {alias.name!r} of {alias.entry.registered_name!r}: {error.problem}"
            return Unchecked(alias.entry.id, what)
        found = judge_alias(gov, gov.ledger.view(), alias, pointed)
        if found is None:
            break
    return found


def judge_alias(
    gov: Governance, view: LedgerView, alias: Alias, pointed: RegistryVersion
) -> Judged | None:
    """Return what is wrong with where an alias points; None if nothing is.

    Args:
        gov: Governance.
        view: Verified ledger, read after the registry was.
        alias: Which.
        pointed: Where it points.
    """
    model = alias.entry.id
    newest = _newest_promotion(view, alias, pointed)
    if newest is not None and _is_at(newest, pointed):
        decision = _decision(gov, view, newest)
        if decision is Decision.GRANTED:
            return None
        if decision is None:
            return Unchecked(model, f"Alias {alias.name!r} of model {model!r}: {UNCOUNTED}.")
    elif _is_under_way(gov, view, alias, pointed, newest.index if newest else -1):
        return None
    last = f"the last promotion on record is of {newest.version}" if newest else "none is on record"
    registered = pointed.manifest or "not registered by us"
    return Discrepancy(
        ALIAS,
        f"{alias.name} {pointed.version} {newest.index if newest else ''}".rstrip(),
        Severity.HIGH,
        model,
        pointed.manifest,
        f"Alias {alias.name!r} points to {pointed.uri} ({registered}), which no promotion on "
        f"record covers: {last}.",
    )


def compare_statuses(
    gov: Governance, registry: Registry, entry: InventoryEntry
) -> list[Discrepancy]:
    """Return the versions that a registry shows as approved, and no promotion on record covers.

    Args:
        gov: Governance.
        registry: Where the model's versions live.
        entry: The model.

    Raises:
        RegistryUnavailableError: The registry cannot be reached; a retry may help.
    """
    shown = [version for version in registry.versions(entry.registered_name) if version.is_approved]
    if not shown:
        return []
    view = gov.ledger.view()  # read after the registry: a promotion may come in between
    begun = {
        each.version
        for each in view.select("approval.consumed", "breakglass.consumed", model=entry.id)
    }
    return [
        Discrepancy(
            STATUS,
            version.uri,
            Severity.HIGH,
            entry.id,
            version.manifest,
            f"{version.uri} is shown as approved, and nobody promoted it: the status was set by "
            "hand. It decides nothing here, and may elsewhere.",
        )
        for version in shown
        if version.manifest is None or version.manifest not in begun
    ]


def repair_alias(gov: Governance, registry: Registry, alias: Alias, source: Source) -> str:
    """Point an alias back to the last promotion on record, if its approval is still in force.

    The entry is written first: an alias is never moved without one.

    Args:
        gov: With the writer's key.
        registry: Where the model's versions live.
        alias: Which.
        source: The task that repairs it, if one does.

    Returns:
        What was done, or why nothing was, for people.

    Raises:
        RegistryUnavailableError: The registry cannot be reached; a retry may help.
        LedgerUnavailableError: The ledger cannot be written; a retry may help.
    """
    view, name = gov.ledger.view(), alias.entry.registered_name
    try:
        wrong = registry.by_alias(name, alias.name)
    except VersionNotFoundError as refusal:
        return f"not repaired: {refusal.problem}"
    newest = _newest_promotion(view, alias, wrong)
    if newest is None or newest.version is None:
        return "not repaired: no promotion is on record"
    version = newest.version
    use = Use(alias.entry.id, newest.body["target"], source, alias.name)
    try:
        clearance = clear_scoring(gov, view, use, version)
        right = registry.find(name, version)
        with tempfile.TemporaryDirectory(prefix="mlgov-repair-") as private:
            verified_files(registry, right, version, Path(private))
    except (GuardRefusedError, VersionNotFoundError) as refusal:
        return f"not repaired: {refusal.problem}"
    draft = EntryDraft(
        kind="alias.repaired",
        model=use.model,
        version=version,
        body={
            "request_sha256": str(clearance.approval.request.digest),
            "target": use.target,
            "registry": right.registry,
            "registered_name": name,
            "registry_version": right.version,
            "alias": alias.name,
            "instead_of": wrong.version,
        },
        identity=(name, alias.name, right.version, wrong.version, str(view.checkpoint.size)),
        source=source,
    )
    gov.ledger.seal(gov.ledger.append(draft))
    registry.set_alias(right, alias.name)
    return f"repaired: it points to version {right.version} again"


def _newest_promotion(view: LedgerView, alias: Alias, where: RegistryVersion) -> SealedEntry | None:
    """Return the last promotion to an alias in a registry, for whichever target."""
    moved = [
        entry
        for entry in view.select("model.promoted", model=alias.entry.id)
        if entry.body["alias"] == alias.name
        and entry.body["registry"] == where.registry
        and entry.body.get("namespace", where.namespace) == where.namespace
    ]
    return moved[-1] if moved else None


def _is_at(promoted: SealedEntry, pointed: RegistryVersion) -> bool:
    number = promoted.body.get("registry_version", pointed.version)
    return (promoted.version, number) == (pointed.manifest, pointed.version)


def _decision(gov: Governance, view: LedgerView, promoted: SealedEntry) -> Decision | None:
    """Return what the approval of a promotion comes to; None if it cannot be counted."""
    if any(glass.covers(promoted) for glass in break_glasses(view, promoted.model)):
        return Decision.GRANTED
    asked = view.select("approval.requested", model=promoted.model, version=promoted.version)
    request = promoted.body["request_sha256"]
    if all(entry.body["request_sha256"] != request for entry in asked):
        return Decision.OPEN
    for standing in standings(gov, view, model=promoted.model, version=promoted.version):
        if str(standing.request.digest) == request:
            return standing.decision if standing.used_by else Decision.OPEN
    return None


def _is_under_way(
    gov: Governance, view: LedgerView, alias: Alias, pointed: RegistryVersion, after: int
) -> bool:
    """Whether a promotion has consumed its approval, and has yet to put itself on record."""
    if pointed.manifest is None:
        return False
    consumed = view.select("approval.consumed", "breakglass.consumed", model=alias.entry.id)
    begun = {
        entry.body.get("breakglass") or entry.body["request_sha256"]
        for entry in consumed
        if entry.index > after
    }
    if any(
        glass.used_by is not None
        and glass.used_by.alias == alias.name
        and glass.entry.version == pointed.manifest
        and glass.entry.key in begun
        for glass in break_glasses(view, alias.entry.id)
    ):
        return True
    return any(
        standing.used_by is not None
        and standing.used_by.alias == alias.name
        and standing.decision is Decision.GRANTED
        and str(standing.request.digest) in begun
        for standing in standings(gov, view, model=alias.entry.id, version=pointed.manifest)
    )
