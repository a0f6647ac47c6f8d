"""Where a script runs beside its task, as the service needs it: `airflow_mlgov.platforms.local`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from airflow_mlgov.errors import MlgovError, TrainingError


@dataclass(frozen=True, slots=True)
class ScriptJob:
    """What a script is asked to do, the same on every platform.

    Attributes:
        script: Path of the script.
        inputs: Data by name: local paths.
        parameters: JSON values.
        seed: For every random generator.
        output_dir: Empty directory that the script fills.
        timeout_s: Wall-clock limit in seconds; None for no limit.
        memory_mb: Limit of address space in MiB; None for no limit.
        env: Extra environment variables.
        what: The kind of script, for errors.
        failure: What is raised about it.
    """

    script: Path
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    seed: int
    output_dir: Path
    timeout_s: float | None
    memory_mb: int | None
    env: Mapping[str, str] = field(default_factory=dict)
    what: str = "Training script"
    failure: type[MlgovError] = TrainingError


class Platform(Protocol):
    """Where a script runs and ends with its task.

    Attributes:
        name: Entry of the platform file.
    """

    name: str

    def run(self, job: ScriptJob, log: Callable[[str], None]) -> None:
        """Run the job to its end, handing each line of its output to `log` as it comes.

        Raises:
            MlgovError: The job's `failure`: the script failed, ran too long or used too much
                memory; a retry does not help.
        """
        ...

    def environment(self) -> dict[str, Any]:
        """Return interpreter, system and packages of the Python that scripts run in."""
        ...

    def cancel(self) -> None:
        """Stop the running job and everything it started."""
        ...
