"""Platforms whose jobs outlive the task that asked for them; one vendor each in `platforms`.

A vendor has two of them: `JobPlatform` trains, `ScoringPlatform` scores; `Jobs` is what both do.

A job is found again by its key, whoever asks. Nothing about it is kept on the worker, so a killed
worker, a retry and a restarted triggerer all find the one job there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source

TRAINING, SCORING = "training", "scoring"


class JobState(StrEnum):
    """What a job does, in words that hold for every vendor."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    MISSING = "missing"
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """Whether it stays so."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}

    @property
    def doubtful(self) -> bool:
        """Whether it may pass, or may never."""
        return self in {JobState.PAUSED, JobState.MISSING, JobState.UNKNOWN}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job is to do, in addresses of the platform's own store.

    Attributes:
        key: Name of the job: ``mlgov-`` and 20 hexadecimal digits.
        spec: Digest of ``spec.json``; the job carries it, so that somebody else's job under the
            same name is told apart.
        code_uri: Staged folder with ``mlgov-entry.pyz``, ``spec.json`` and the script; of a scoring
            job also the model's files, under ``model/``.
        inputs: URI of a file by the name that the script knows it by; of a scoring job, of what is
            scored by its file name.
        output_uri: Folder under which the job writes; nothing stands there yet.
        timeout_s: After which the platform is to end the job.
        labels: For bills and people, besides the entry's own tags: ``[a-z0-9_-]``, at most 63
            characters.
        sizes: Length in bytes of each input of a scoring job, by the same names.
    """

    key: str
    spec: Digest
    code_uri: str
    inputs: Mapping[str, str]
    output_uri: str
    timeout_s: int
    labels: Mapping[str, str]
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobHandle:
    """A job that a platform has.

    Attributes:
        platform: Entry of the platform file.
        key: Name that it was submitted under.
        native_id: What the vendor calls it.
        console_url: Where people look at it.
        spec: Digest that it carries; None if it carries none, and so is somebody else's.
        purpose: ``training`` or ``scoring``.
    """

    platform: str
    key: str
    native_id: str
    console_url: str
    spec: Digest | None
    purpose: str = TRAINING

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, version 1, for a trigger."""
        return {**asdict(self), "spec": str(self.spec) if self.spec else None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JobHandle:
        """Return what `as_json` was made of."""
        spec = value["spec"]
        return cls(**{**value, "spec": Digest.parse(spec) if spec else None})

    def __str__(self) -> str:
        return f"job {self.native_id} on platform {self.platform} ({self.console_url})"


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How a job stands.

    Attributes:
        state: In common words.
        native_state: In the vendor's.
        reason: Why it failed or was stopped, as the vendor says; empty if it says nothing.
        billable_s: Seconds that are charged; None while unknown.
        facts: What the platform itself says was used, for the evidence: ``image``, ``region``,
            ``key``, ``identity``, ``instance``, ``started_at``, ``ended_at``; what it does not say
            is left out.
    """

    state: JobState
    native_state: str
    reason: str = ""
    billable_s: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a platform's own store.

    Attributes:
        uri: Where it is.
        size_bytes: Length.
        version: What the store calls these very bytes (generation, version id or entity tag).
    """

    uri: str
    size_bytes: int
    version: str


class Jobs(Protocol):
    """A vendor's jobs, under one entry of the platform file. Its methods may be called in threads.

    Unless said otherwise each raises `PlatformUnavailableError` (a retry may help) for throttling,
    5xx, time-outs, an expired token (renewed by the next call) and a network that is away, and
    `PlatformError` (no retry helps) for a connection that is missing or refused, a quota that is
    exceeded, a clock that is wrong and anything else that the vendor refuses.
    """

    @property
    def name(self) -> str:
        """Entry of the platform file."""
        ...

    @property
    def kind(self) -> str:
        """``sagemaker``, ``vertex`` or ``azureml``."""
        ...

    def stage(self, folder: str, files: Mapping[str, Path]) -> str:
        """Store files beneath the entry's output location and return the folder's URI.

        Args:
            folder: Path beneath the output location, named by a digest of what it holds: what is
                there already is not sent again, unless its size differs.
            files: Local files by relative path.
        """
        ...

    def output_uri(self, folder: str) -> str:
        """Return the URI of a folder beneath the entry's output location."""
        ...

    def first_object(self, uri: str) -> str | None:
        """Return the URI of something that stands under a folder's URI; None if nothing does."""
        ...

    def render(self, spec: JobSpec) -> dict[str, Any]:
        """Return the vendor's own request, JSON values in the vendor's names; asks nobody."""
        ...

    def stated(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what a rendered request says about the subjects of controls; asks nobody.

        A subject that the request does not mention is stated with the value None and the field in
        which it would stand; one that the vendor cannot say in a request is left to `preflight`.
        """
        ...

    def preflight(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Ask the account what a request cannot say: keys, regions and publicity of stores.

        What could not be asked is stated as unknown, with the reason, and raises nothing.
        """
        ...

    def find(self, key: str) -> JobHandle | None:
        """Return the job with this key, running or ended; None if the platform shows none.

        Of several, which only a vendor without names of the client's choice can have, the oldest.
        """
        ...

    def submit(self, request: Mapping[str, Any]) -> JobHandle:
        """Start the job, or return the one that has its name already.

        Of two that start at once one remains, on every platform: a younger duplicate is cancelled.
        """
        ...

    def poll(self, handle: JobHandle) -> JobStatus:
        """Return how a job stands; a job that is not shown is `JobState.MISSING`.

        A status that is new to us is `JobState.UNKNOWN`, never a success.
        """
        ...

    def cancel(self, handle: JobHandle) -> None:
        """Ask the platform to end a job; one that has ended or is gone is fine."""
        ...

    def log_lines(self, handle: JobHandle, cursor: str | None) -> tuple[list[str], str | None]:
        """Return what the job has written since a cursor, at most 1,000 lines, and the next cursor.

        Args:
            handle: A job.
            cursor: None for the start; else what the last call returned.
        """
        ...


class JobPlatform(Jobs, Protocol):
    """A vendor's jobs that train."""

    def fetch(self, handle: JobHandle, output_uri: str, into: Path) -> None:
        """Copy what a job wrote (``model/``, ``metrics.json`` ...) from the store to a folder.

        Args:
            handle: A job that has succeeded.
            output_uri: As in its `JobSpec`.
            into: An empty private folder.

        Raises:
            ArtefactError: It is cut short, or holds links or paths that leave the folder; a retry
                does not help.
        """
        ...

    def check(self) -> str:
        """Ask the account who we are, and return a line about it for `doctor`."""
        ...

    def missing_permissions(self) -> Sequence[str]:
        """Return what we may not do of what jobs, stores and preflight need; empty for nothing.

        Raises:
            PlatformError: The vendor cannot be asked about that; a retry does not help.
        """
        ...


class ScoringPlatform(Jobs, Protocol):
    """A vendor's jobs that score; their errors are those of `Jobs`.

    What runs in the container is `airflow_mlgov.service.container_score`.
    """

    def stage_package(self, spec: JobSpec, files: Mapping[str, Path]) -> None:
        """Store what a job needs under its ``code_uri``, and what its vendor wants beside it.

        Args:
            spec: The job.
            files: Local files by relative path: ``mlgov-entry.pyz``, ``spec.json``, the script and
                what it imports, and the model's under ``model/``. What is there already is not sent
                again, unless its size differs.
        """
        ...

    def fetch_package(self, spec: JobSpec, into: Path) -> None:
        """Copy back what stands under ``code_uri``, with the same relative paths.

        Args:
            spec: The job.
            into: An empty private folder.

        Raises:
            ArtefactError: It is cut short, missing, or holds links or paths that leave the folder;
                a retry does not help.
        """
        ...

    def fetch_scores(self, handle: JobHandle, spec: JobSpec, into: Path) -> Mapping[str, str]:
        """Copy the scores of each input to a folder, under the name that `scores_name` gives it.

        Args:
            handle: A job that has succeeded.
            spec: The job.
            into: An empty private folder.

        Returns:
            The URI of each input's scores, by the input's name.

        Raises:
            ArtefactError: Scores are missing, cut short, or not what the container says it wrote; a
                retry does not help.
        """
        ...

    def located(self, uri: str) -> Sequence[StoredFile]:
        """Return a file of the platform's store; of a URI that ends in ``/``, all beneath it.

        Raises:
            DataError: There is none, or it is no address of this store; a retry does not help.
        """
        ...


def job_key(source: Source, spec: Digest, generation: int) -> str:
    """Return the name of a job: legal at all vendors, the same for every try.

    Args:
        source: Which task; its try number does not matter.
        spec: Digest of what is asked.
        generation: How many jobs of this task have ended without success.
    """
    parts = [
        source.dag_id, source.run_id, source.task_id, source.map_index, str(spec), generation
    ]  # fmt: skip
    return f"mlgov-{Digest.of(canonical_bytes(parts)).hex[:20]}"
