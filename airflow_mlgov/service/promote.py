"""Promotion: verify the approval, consume it once, move the alias."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_mlgov.errors import (
    GuardRefusedError,
    LedgerConflictError,
    RegistryError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.allow_use import (
    AnyClearance,
    allow_promotion,
    basis_of,
    rests_on,
)
from airflow_mlgov.service.approvals import Use, requests
from airflow_mlgov.service.artefacts import hash_directory
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
        version: Where the version lives, in the first registry.
        receipt: Of that one's ``model.promoted``, under a signed checkpoint.
        also: Where it lives in the further registries.
    """

    clearance: AnyClearance
    version: RegistryVersion
    receipt: SealedReceipt
    also: tuple[RegistryVersion, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """A version in one registry."""

    registry: Registry
    version: RegistryVersion


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
    gov: Governance,
    registry: Registry,
    use: Use,
    version: Digest | None = None,
    *,
    also: Sequence[Registry] = (),
) -> Promotion:
    """Move an alias to a version that is approved, or that glass was broken for.

    In several registries it moves everywhere or nowhere: where one fails, those that were moved are
    put back. A further registry that does not hold the version is given it, from the files that
    were verified. Killed between any two of its steps, the same call again completes the same
    promotion.

    Args:
        gov: Governance.
        registry: Where the version lives.
        use: Which model, for which environment, by which task, and the alias to move.
        version: Manifest digest; None for the version that the gate of the same run asked about,
            or else that glass was broken for.
        also: Further registries.

    Raises:
        GuardRefusedError: A check failed, and the refusal is on record; a retry does not help.
        RegistryError: A registry refused; what was done is said, and a retry does not help.
        RegistryUnavailableError: A registry cannot be reached; a retry may help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    with refusals_on_record(gov, use, version):
        asked = version or version_asked_by_run(gov, use)
    with refusals_on_record(gov, use, asked):
        clearance = allow_promotion(gov, gov.ledger.view(), use, asked)
        with tempfile.TemporaryDirectory(prefix="mlgov-promote-") as private:
            places = _verified_places(gov, (registry, *also), use, asked, Path(private))
        _consume(gov, clearance)
    _move_alias(places, use.alias)
    receipts = [_record_promotion(gov, clearance, place.version) for place in places]
    for place in places:
        _settle_alias(gov, place, use)
    first, *further = (place.version for place in places)
    return Promotion(clearance, first, receipts[0], tuple(further))


def _verified_places(
    gov: Governance, registries: Sequence[Registry], use: Use, asked: Digest, private: Path
) -> list[_Place]:
    """Return the version in each registry, its files verified there."""
    name, files, places = gov.model(use.model).registered_name, Path(), list[_Place]()
    for number, registry in enumerate(registries):
        into = private / str(number)
        into.mkdir()
        try:
            found = registry.find(name, asked)
        except VersionNotFoundError:
            if not places:
                raise
            manifest = hash_directory(files)
            found = registry.register(name, files, manifest, {"mlgov.model": use.model})
        checked = verified_files(registry, found, asked, into)
        files = files if places else checked
        places.append(_Place(registry, found))
    return places


def _move_alias(places: Sequence[_Place], alias: str) -> None:
    """Point the alias to the version in every registry, or to where it pointed before in all."""
    moved: list[tuple[_Place, RegistryVersion | None]] = []
    for place in places:
        try:
            before = _pointed(place, alias) if len(places) > 1 else None
            place.registry.set_alias(place.version, alias)
        except RegistryError as error:
            if len(places) == 1:
                raise
            raise _half_moved(places, place, moved, alias, error) from error
        moved.append((place, before))


def _pointed(place: _Place, alias: str) -> RegistryVersion | None:
    try:
        return place.registry.by_alias(place.version.name, alias)
    except VersionNotFoundError:
        return None


def _half_moved(
    places: Sequence[_Place],
    failed: _Place,
    moved: Sequence[tuple[_Place, RegistryVersion | None]],
    alias: str,
    error: RegistryError,
) -> RegistryError:
    """Put back what was moved, and return an account of all of it."""
    told = [_put_back(place, before, alias) for place, before in reversed(moved)]
    told.append(f"{failed.version.uri} failed: {error.problem}")
    told += [f"{place.version.uri} was not tried" for place in places[len(moved) + 1 :]]
    kind = RegistryUnavailableError if error.retryable else RegistryError
    return kind(
        f"Alias {alias!r} was not moved in all {len(places)} registries: {'; '.join(told)}.",
        remedy=f"{error.remedy} Then clear the task: it completes the same promotion.".strip(),
    )


def _put_back(place: _Place, before: RegistryVersion | None, alias: str) -> str:
    try:
        if before is None:
            place.registry.unset_alias(place.version, alias)
        elif before.version != place.version.version:
            place.registry.set_alias(before, alias)
    except RegistryError as error:
        return (
            f"{place.version.uri} was moved and could not be put back ({error.problem}): no "
            "promotion on record covers it, and guards refuse it"
        )
    return f"{place.version.uri} was moved and put back"


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
            "namespace": version.namespace,
            "alias": use.alias,
        },
        identity=(str(rests_on(clearance)), use.target, version.namespace, use.alias),
        source=use.source,
    )
    return gov.ledger.seal(gov.ledger.append(draft))


def _settle_alias(gov: Governance, mine: _Place, use: Use) -> None:
    """Of two promotions at once, let the alias end where the last one on record put it."""
    newest = newest_promotion(gov.ledger.view(), use)
    if newest is not None and newest.version == mine.version.manifest:
        mine.registry.set_alias(mine.version, use.alias)
