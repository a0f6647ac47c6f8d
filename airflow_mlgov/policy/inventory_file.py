"""Inventory entries from YAML files, one model a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.documents import (
    INVENTORY_SCHEMA,
    Document,
    inspect_yaml,
    parse_yaml,
)
from airflow_mlgov.policy.files import mentions, read_bytes, yaml_files
from airflow_mlgov.policy.inventory import Deed, InventoryEntry, Mode, NamedTask, Regime
from airflow_mlgov.policy.schema import Departure

_OF_A_USE = frozenset({"target", "alias", "registry"})


def read_inventory(path: str | Path) -> dict[str, InventoryEntry]:
    """Read every inventory entry of a folder, or the one in a file, by model id.

    Args:
        path: Folder of ``*.yaml`` and ``*.yml`` files, or one file.

    Raises:
        DocumentError: The first thing that is wrong with one of them; a retry does not help.
    """
    entries: dict[str, InventoryEntry] = {}
    for file in yaml_files(path):
        source = read_bytes(file)
        entry = parse_entry(source, str(file))
        clash = entry_clash(entry, entries)
        if clash:
            raise parse_yaml(source, entry.file).locate(clash)
        entries[entry.id] = entry
    return entries


def parse_entry(source: bytes, file: str) -> InventoryEntry:
    """Return the inventory entry that a file's bytes state.

    Raises:
        DocumentError: The first thing that is wrong with it; a retry does not help.
    """
    entry, problems = inspect_entry(source, file)
    if entry is None:
        raise problems[0]
    return entry


def inspect_entry(source: bytes, file: str) -> tuple[InventoryEntry | None, list[DocumentError]]:
    """Return the entry, or None and everything that is wrong with it, in the order of its lines."""
    try:
        document = parse_yaml(source, file)
    except DocumentError as error:
        return None, [error]
    problems = inspect_yaml(document, INVENTORY_SCHEMA) or [
        *_people_problems(document),
        *_task_problems(document),
    ]
    return (None, problems) if problems else (_entry(document), [])


def entry_clash(entry: InventoryEntry, entries: Mapping[str, InventoryEntry]) -> Departure | None:
    """Return what is wrong if another file states an entry's id or registered name already."""
    for other in entries.values():
        if entry.id == other.id:
            problem = f"the model {entry.id!r} stands in {other.file} too."
            return Departure(("id",), problem, "Give each model its own id.")
        if entry.registered_name == other.registered_name:
            name = entry.registered_name
            problem = f"the registered name {name!r} is that of {other.id!r} ({other.file}) too."
            remedy = "Register each model under its own name: they would move each other's alias."
            return Departure(("registered_name",), problem, remedy)
    return None


def _people_problems(document: Document) -> list[DocumentError]:
    problems = []
    for key in ("developers", "validators"):
        names = [user.casefold() for user in document.value[key]]
        for index, name in enumerate(names):
            if name in names[:index]:
                problem, remedy = f"{name!r} is listed twice.", "List each person once."
                problems.append(document.error(problem, key, index, remedy=remedy))
    return problems


def _task_problems(document: Document) -> Iterator[DocumentError]:
    for index, task in enumerate(document.value.get("tasks", ())):
        for key, problem, remedy in _task_departures(document, task):
            yield document.error(problem, "tasks", index, key, remedy=remedy)


def _task_departures(document: Document, task: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    targets = document.value["targets"]
    if not mentions(document.source.decode(), task["dag_id"]):
        # `airflow_mlgov.policy.inventory_folder` looks for it in the text.
        yield "dag_id", "the id is written with an escape.", "Write it as it is."
    if task["does"] == Deed.TRAIN:
        for key in sorted(_OF_A_USE & task.keys()):
            yield key, f"a task that trains has no {key!r}.", "Leave it out."
    elif "target" not in task:
        yield "target", "the key is missing.", f"Add 'target', one of: {', '.join(targets)}."
    elif task["target"] not in targets:
        problem = f"{task['target']!r} is none of the model's targets."
        yield "target", problem, f"Write one of: {', '.join(targets)}."


def _entry(document: Document) -> InventoryEntry:
    said: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in document.value.items()
        if key != "version"
    }
    said["mode"] = Mode(said["mode"])
    said["regimes"] = tuple(
        Regime(r["name"], r["applies"], date.fromisoformat(r["decided_on"]), r["reason"])
        for r in said["regimes"]
    )
    said["tasks"] = tuple(
        NamedTask(**{**task, "does": Deed(task["does"])}) for task in said.get("tasks", ())
    )
    return InventoryEntry(**said, file=document.file)
