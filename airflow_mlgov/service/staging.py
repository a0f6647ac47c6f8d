"""What a job needs, as it is named, hashed and laid out for a platform's store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.container import ENTRY_FILE, SPEC_FILE, entry_archive
from airflow_mlgov.service.job_platform import JobHandle, Jobs, JobStatus
from airflow_mlgov.service.provenance import describe_code, hash_script


@dataclass(frozen=True, slots=True)
class Code:
    """A script and the Python files beside it, which it can import.

    Attributes:
        digests: By file name.
        files: By the same names.
    """

    digests: Mapping[str, Digest]
    files: Mapping[str, Path]

    @classmethod
    def of(cls, script: Path) -> Code:
        """Return a script's code.

        Raises:
            MlgovError: It cannot be read; a retry does not help.
        """
        own = hash_script(script)
        beside = describe_code(script)["code_files"]
        folder = script.resolve().parent
        return cls(
            {name: Digest.parse(sha256) for name, sha256 in beside.items()} | {script.name: own},
            {name: folder / name for name in beside} | {script.name: script},
        )


@contextmanager
def staged_files(document: bytes, code: Code) -> Iterator[dict[str, Path]]:
    """Hand out the files that every job needs: entry point, specification, script, its imports."""
    with TemporaryDirectory(prefix="mlgov-stage-") as folder:
        archive, spec = Path(folder, ENTRY_FILE), Path(folder, SPEC_FILE)
        archive.write_bytes(entry_archive())
        spec.write_bytes(document)
        yield {**code.files, archive.name: archive, spec.name: spec}


def staged_folder(digest: Digest) -> str:
    """Return the folder, beneath a platform's output location, of what a digest stands for."""
    return f"staged/{digest.hex}"


def output_folder(key: str) -> str:
    """Return the folder, beneath a platform's output location, that a job writes to."""
    return f"jobs/{key}"


def limit_s(terms: PlatformTerms, asked_s: float | None) -> int:
    """Return how long a job may take: what is asked, at most what the platform's entry allows."""
    most_s = terms.hours * 3600
    return int(most_s if asked_s is None else min(most_s, asked_s))


def label(text: str) -> str:
    """Return a text as a label may be at every vendor."""
    allowed = (char if char.isascii() and char.isalnum() else "-" for char in text.lower())
    return "".join(allowed)[:63]


def refuse_memory(terms: PlatformTerms, memory_mb: int | None) -> None:
    """Refuse a limit that only a local platform can keep.

    Raises:
        ConfigurationError: There is one; a retry does not help.
    """
    if memory_mb is not None:
        raise ConfigurationError(
            f"Limit memory_mb is for local platforms, and {terms.name} is none.",
            remedy="Choose the machine by 'instance' of the platform's entry.",
        )


def job_facts(
    jobs: Jobs, terms: PlatformTerms, handle: JobHandle, status: JobStatus, output_uri: str
) -> dict[str, Any]:
    """Return what the evidence says of a job; its image as asked for, if the platform says none."""
    return {
        "key": handle.key,
        "native_id": handle.native_id,
        "console_url": handle.console_url,
        "kind": jobs.kind,
        "billable_s": status.billable_s,
        "output_uri": output_uri,
        "image": terms.image,
        **status.facts,
    }
