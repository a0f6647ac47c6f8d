"""What somebody wants scored, the same wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import Use
from airflow_mlgov.service.container_scoring import SpecData, refuse_same_scores
from airflow_mlgov.service.contract import check_limits, check_request
from airflow_mlgov.service.job_platform import StoredFile
from airflow_mlgov.service.provenance import read_input


@dataclass(frozen=True)
class ScoringOrder:
    """What somebody wants scored.

    Attributes:
        use: Which model, for which environment, by which task, and the alias that names the
            version in use.
        script: Scoring script.
        data: Paths of files, or URIs in the platform's own store; one that ends in ``/`` stands for
            all files beneath it.
        output: Folder on this machine that gets the scores; None to leave them in the platform's
            store.
        parameters: JSON values.
        timeout_s: Wall-clock limit in seconds, above 0; None for no limit.
        memory_mb: Limit in MiB, above 0; None for no limit.
    """

    use: Use
    script: Path
    data: Sequence[str]
    output: Path | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None
    memory_mb: int | None = None

    @property
    def model(self) -> str:
        """Inventory id."""
        return self.use.model

    @property
    def source(self) -> Source:
        """Which task asks."""
        return self.use.source


@dataclass(frozen=True, slots=True)
class ScoredData:
    """A file that is to be scored.

    Attributes:
        name: File name.
        uri: Address: ``file:///...``, or in the platform's store.
        size_bytes: Length.
        sha256: Digest of its bytes; None if it lies in the store and was not read here.
        version: What the store calls these very bytes; empty for a local file.
        path: Of a local file; None in the store.
    """

    name: str
    uri: str
    size_bytes: int
    sha256: Digest | None = None
    version: str = ""
    path: Path | None = None

    def as_spec(self) -> SpecData:
        """Return it as a container's specification states it."""
        return SpecData(self.sha256, self.size_bytes, self.version)

    def as_json(self) -> dict[str, Any]:
        """Return it as the evidence states it."""
        said = {"sha256": str(self.sha256)} if self.sha256 else {"version": self.version}
        return {"name": self.name, "uri": self.uri, "size": self.size_bytes, **said}


def read_data(
    order: ScoringOrder, located: Callable[[str], Sequence[StoredFile]] | None
) -> tuple[ScoredData, ...]:
    """Return the files of an order that can be, in the order of their names.

    Args:
        order: What is to be scored.
        located: Looks into the platform's store; None where there is none.

    Raises:
        ConfigurationError: It asks for what cannot be; a retry does not help.
        DataError: A file is missing; a retry does not help.
        PlatformUnavailableError: The store cannot be reached; a retry may help.
    """
    check_request({}, order.parameters, 0)
    check_limits(order.timeout_s, order.memory_mb)
    found: list[ScoredData] = []
    for place in order.data:
        is_local = "://" not in place or urlsplit(place).scheme == "file"
        found += [_local(place)] if is_local else _stored(place, located)
    refuse_same_scores([each.name for each in found])
    return tuple(sorted(found, key=lambda each: each.name))


def _local(place: str) -> ScoredData:
    read = read_input("data", place)
    return ScoredData(read.path.name, read.uri, read.size_bytes, read.sha256, path=read.path)


def _stored(place: str, located: Callable[[str], Sequence[StoredFile]] | None) -> list[ScoredData]:
    if located is None:
        raise ConfigurationError(
            f"{place} is no local file, and a local platform reads no others.",
            remedy="Copy it where the worker can read it, or score on a platform of its cloud.",
        )
    return [
        ScoredData(_name_of(file.uri), file.uri, file.size_bytes, version=file.version)
        for file in located(place)
    ]


def _name_of(uri: str) -> str:
    return PurePosixPath(unquote(urlsplit(uri).path)).name
