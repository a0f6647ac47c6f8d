"""A folder or a bucket that keeps every event as a file of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlgov.errors import ConfigurationError, LineageUnavailableError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.durable_file import make_folder, replace_file, sync_folder
from airflow_mlgov.service.outbox import Event

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


class FolderTarget:
    """Keeps events as ``<url>/<day>/<time>-<digest>.json``, days and times in UTC.

    The same event has the same name, so that keeping it twice changes nothing. On a local disk it
    appears whole or not at all, also after a crash.

    Args:
        name: What the settings call it.
        url: ``file:///absolute/folder`` or ``scheme://connection@bucket/prefix``.

    Raises:
        ConfigurationError: The URL is none of these, or no installed provider knows its scheme.
    """

    binds_on_arrival = False

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        scheme, _, rest = url.partition("://")
        self._folder = Path(rest) if scheme == "file" else None
        if not rest or (self._folder is not None and not self._folder.is_absolute()):
            raise ConfigurationError(
                f"The url {url!r} of lineage target {name} is no absolute object storage path.",
                remedy="Write file:///absolute/folder, or scheme://connection@bucket/prefix.",
            )
        self._bucket = None if self._folder is not None else _opened(name, url)

    @property
    def name(self) -> str:
        """What the settings call it."""
        return self._name

    def problem(self, event: Event) -> str:
        """Say why an event cannot be kept: only one without a time cannot."""
        try:
            _moment(event)
        except (KeyError, TypeError, ValueError):
            return "It has no eventTime, by which it would be filed."
        return ""

    def send(self, event: bytes) -> None:
        """Keep an event; it is on disk, or in the bucket, when this returns."""
        moment = _moment(json.loads(event))
        day, name = moment.strftime("%Y-%m-%d"), moment.strftime("%H%M%S.%fZ")
        file = f"{name}-{Digest.of(event).hex[:16]}.json"
        try:
            if self._folder is not None:
                _write(self._folder / day, file, event)
            elif self._bucket is not None:
                path = self._bucket / day / file
                path.fs.pipe_file(path.path, event)
        except Exception as error:
            # Each object store's driver raises its own tree of errors; none may leave this method.
            raise LineageUnavailableError(
                f"Lineage target {self._name} cannot be written: {error}.",
                remedy="Check that it can be written by this process and has space left.",
            ) from error

    def difference(self, events: Sequence[Event]) -> str:  # noqa: ARG002
        """Return nothing: a file says what was written."""
        return ""


def _moment(event: Event) -> datetime:
    said: Any = event["eventTime"]
    moment = datetime.fromisoformat(said)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _opened(name: str, url: str) -> ObjectStoragePath:
    from airflow.sdk import ObjectStoragePath

    try:
        root = ObjectStoragePath(url)
        _ = root.fs
    except Exception as error:
        raise ConfigurationError(
            f"The url {url!r} of lineage target {name} cannot be opened: {error}.",
            remedy="Install the Airflow provider for its scheme, and check its connection.",
        ) from error
    return root


def _write(folder: Path, name: str, data: bytes) -> None:
    path = folder / name
    if path.exists() and path.read_bytes() == data:
        return
    make_folder(folder)
    replace_file(path, data, 0o640)
    sync_folder(folder)
    sync_folder(folder.parent)
