"""What is wrong with whole folders of inventory files and policy packs, and with the two together.

Reading a folder stops at the first error; checking lists every error of every file, and warnings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Generic, TypeVar

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.documents import parse_yaml
from airflow_mlgov.policy.files import read_bytes, yaml_files
from airflow_mlgov.policy.inventory import InventoryEntry
from airflow_mlgov.policy.inventory_file import entry_clash, inspect_entry
from airflow_mlgov.policy.pack import PolicyPack
from airflow_mlgov.policy.pack_file import inspect_pack, pack_clash
from airflow_mlgov.policy.schema import Departure, suggestion
from airflow_mlgov.policy.seating import unseated
from airflow_mlgov.policy.tally import Electorate, eligible

_Read = TypeVar("_Read", InventoryEntry, PolicyPack)


@dataclass(frozen=True)
class Checked(Generic[_Read]):
    """What a folder holds and what is wrong with it.

    Attributes:
        files: Every file that was looked at, in the order of names.
        good: What could be read, by id.
        errors: What keeps a file from being used.
        warnings: What can be used, and probably is not meant.
    """

    files: list[str] = field(default_factory=list)
    good: dict[str, _Read] = field(default_factory=dict)
    errors: list[DocumentError] = field(default_factory=list)
    warnings: list[DocumentError] = field(default_factory=list)


def check_packs(path: str | Path) -> Checked[PolicyPack]:
    """Check every policy pack of a folder, or the one in a file.

    Raises:
        DocumentError: There is no such file or folder; a retry does not help.
    """
    found: Checked[PolicyPack] = Checked()
    for file, source in _sources(path, found.files, found.errors):
        pack, problems = inspect_pack(source, file)
        found.errors.extend(problems)
        if pack is None:
            continue
        clash = pack_clash(pack, found.good)
        if clash:
            found.errors.append(parse_yaml(source, file).locate(clash))
        else:
            found.good[pack.id] = pack
            located = map(parse_yaml(source, file).locate, _absence_warnings(pack))
            found.warnings.extend(located)
    return found


def check_inventory(
    path: str | Path, packs: Mapping[str, PolicyPack] | None
) -> Checked[InventoryEntry]:
    """Check every inventory file of a folder, or the one that is named, against the packs.

    Args:
        path: Folder or file.
        packs: Packs that entries may name, by id; None if they are not to be had, so that nothing
            is said about them.

    Raises:
        DocumentError: There is no such file or folder; a retry does not help.
    """
    found: Checked[InventoryEntry] = Checked()
    for file, source in _sources(path, found.files, found.errors):
        entry, problems = inspect_entry(source, file)
        found.errors.extend(problems)
        if entry is None:
            continue
        document = parse_yaml(source, file)
        clash = entry_clash(entry, found.good)
        if clash:
            found.errors.append(document.locate(clash))
            continue
        found.good[entry.id] = entry
        found.warnings.extend(map(document.locate, _own_warnings(entry)))
        if packs is not None:
            found.errors.extend(map(document.locate, _pack_errors(entry, packs)))
            found.warnings.extend(map(document.locate, _seat_warnings(entry, packs)))
    return found


def _sources(
    path: str | Path, files: list[str], errors: list[DocumentError]
) -> Iterator[tuple[str, bytes]]:
    for file in yaml_files(path):
        files.append(str(file))
        try:
            source = read_bytes(file)
        except DocumentError as error:
            errors.append(error)
        else:
            yield str(file), source


def _absence_warnings(pack: PolicyPack) -> Iterator[Departure]:
    """Yield where, while people are away, requests could only wait."""
    nobody = Electorate(None, ())
    for index, absence in enumerate(pack.absences):
        day = datetime.combine(absence.first_day, time(), UTC)
        seats = [replace(seat, users=eligible(pack, seat, nobody, day)) for seat in pack.seats]
        empty = unseated(pack.canonical_seats(seats))
        if empty:
            problem = f"on {absence.first_day} nobody is left for the seat {empty.role!r}: "
            problem += "requests wait until somebody is back."
            remedy = "Name a deputy who has no place of their own, or add users to that seat."
            yield Departure(("absences", index), problem, remedy)


def _own_warnings(entry: InventoryEntry) -> Iterator[Departure]:
    developers = {name.casefold() for name in entry.developers}
    both = [name for name in entry.validators if name.casefold() in developers]
    if both:
        problem = f"{', '.join(both)} both develops and validates: no independent challenge."
        yield Departure(("validators",), problem, "Name validators who did not build it.")


def _pack_errors(entry: InventoryEntry, packs: Mapping[str, PolicyPack]) -> Iterator[Departure]:
    pack = packs.get(entry.policy)
    if pack is None:
        meant = suggestion(entry.policy, list(packs))
        known = f"Known packs: {', '.join(sorted(packs)) or 'none'}."
        remedy = f"Did you mean {meant!r}? {known}" if meant else known
        yield Departure(("policy",), f"there is no policy pack {entry.policy!r}.", remedy)
    elif "model.validated" in pack.required_evidence and entry.model_class not in pack.plans:
        problem = f"{pack.id!r} requires validation and has no plan for {entry.model_class!r}."
        remedy = f"Add a plan to {pack.file}, which has: {', '.join(sorted(pack.plans))}."
        yield Departure(("model_class",), problem, remedy)


def _seat_warnings(entry: InventoryEntry, packs: Mapping[str, PolicyPack]) -> Iterator[Departure]:
    pack = packs.get(entry.policy)
    if pack is None or not pack.segregation.developers:
        return
    empty = unseated(pack.canonical_seats(), barred=pack.names(*entry.developers))
    if empty:
        problem = (
            f"without the developers nobody is left for the seat {empty.role!r} of {pack.id!r}."
        )
        remedy = f"No version can be approved so: add users to that seat in {pack.file}."
        yield Departure(("developers",), problem, remedy)
