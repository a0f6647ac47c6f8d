"""The inventory as it stands now, for those who ask often and mostly about what it does not name.

Airflow parses every DAG file in a process of its own. So files are read as text first, and parsed
only if what is asked about stands in them; they are looked at again only every few seconds, and
read again only if they have changed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from pathlib import Path

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.files import mentions, read_bytes, yaml_files
from airflow_mlgov.policy.inventory import InventoryEntry, Mode, NamedTask

LOOK_S = 2.0
"""Seconds for which the files are taken to be as they were."""

log = logging.getLogger(__name__)


class InventoryFolder:
    """Inventory files of a folder, or one file.

    Args:
        path: Folder of ``*.yaml`` and ``*.yml`` files, or one file.
        now_s: Seconds on a clock that only goes forward.
    """

    def __init__(self, path: str | Path, now_s: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._now_s = now_s
        self._turn = threading.Lock()
        self._look_at_s = float("-inf")
        self._seen: object = None
        self._files: list[_File] = []
        self._error: DocumentError | None = None

    def mentions(self, word: str) -> bool:
        """Tell whether an id stands in a file; False if the folder itself cannot be read."""
        self._look()
        return any(file.mentions(word) for file in self._files)

    def entries(self, *words: str) -> dict[str, InventoryEntry]:
        """Return the entries of those files in which one of some ids stands, by model id.

        Args:
            *words: Ids of models or DAGs; none for every entry.

        Raises:
            DocumentError: One of these files, or the folder itself, is not in order; a retry does
                not help.
        """
        from airflow_mlgov.policy.documents import parse_yaml
        from airflow_mlgov.policy.inventory_file import entry_clash

        self._look()
        if self._error is not None:
            raise self._error
        found: dict[str, InventoryEntry] = {}
        for file in self._files:
            if words and not any(map(file.mentions, words)):
                continue
            entry = file.entry
            if isinstance(entry, DocumentError):
                raise entry
            clash = entry_clash(entry, found)
            if clash:
                raise parse_yaml(file.source, entry.file).locate(clash)
            found[entry.id] = entry
        return found

    def named_tasks(self, dag_id: str) -> dict[str, list[tuple[InventoryEntry, NamedTask]]]:
        """Return the tasks of a DAG that the inventory names, by id, the strictest model first.

        Raises:
            DocumentError: A file in which the DAG's id stands is not in order; a retry does not
                help.
        """
        named: dict[str, list[tuple[InventoryEntry, NamedTask]]] = {}
        if not self.mentions(dag_id):
            return named
        modes = list(Mode)
        entries = self.entries(dag_id).values()
        for entry in sorted(entries, key=lambda entry: -modes.index(entry.mode)):
            for task in entry.tasks:
                if task.dag_id == dag_id:
                    named.setdefault(task.task_id, []).append((entry, task))
        return named

    def _look(self) -> None:
        # Who asks while another thread reads for the first time must not find nothing.
        with self._turn:
            if self._now_s() >= self._look_at_s:
                self._read_anew()

    def _read_anew(self) -> None:
        self._look_at_s = self._now_s() + LOOK_S
        try:
            paths = yaml_files(self._path)
            seen = [_stamp(path) for path in paths]
            if seen != self._seen:
                self._files = list(self._read(paths))
            self._seen, self._error = seen, None
        except DocumentError as error:
            log.error("The inventory cannot be read, so that nothing is known of it: %s", error)  # noqa: TRY400
            self._seen, self._error, self._files = None, error, []

    def _read(self, paths: Iterable[Path]) -> Iterable[_File]:
        known = {str(file.path): file for file in self._files}
        for path in paths:
            source, before = read_bytes(path), known.get(str(path))
            yield before if before and before.source == source else _File(path, source)


@cache
def folder_at(path: str) -> InventoryFolder:
    """Return this process's view of an inventory folder."""
    return InventoryFolder(path)


class _File:
    def __init__(self, path: Path, source: bytes) -> None:
        self.path = path
        self.source = source
        self._text = source.decode("utf-8", errors="replace")

    def mentions(self, word: str) -> bool:
        """Whether an id stands in it, be it only in a text."""
        return mentions(self._text, word)

    @cached_property
    def entry(self) -> InventoryEntry | DocumentError:
        from airflow_mlgov.policy.inventory_file import inspect_entry

        entry, problems = inspect_entry(self.source, str(self.path))
        return entry if entry is not None else problems[0]


def _stamp(path: Path) -> tuple[Path, int, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DocumentError(
            f"cannot be read ({error.strerror}).", file=str(path), remedy="Check its permissions."
        ) from error
    return path, stat.st_mtime_ns, stat.st_size, stat.st_ino
