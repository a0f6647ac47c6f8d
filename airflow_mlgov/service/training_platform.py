"""Where training runs, as the service needs it; one vendor each in `airflow_mlgov.platforms`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What a training script is asked to do, the same on every platform.

    Attributes:
        script: Path of the script.
        inputs: Data by name: local paths.
        parameters: JSON values.
        seed: For every random generator.
        output_dir: Empty directory that the script fills with ``model/``, ``metrics.json``,
            ``signature.json``.
        timeout_s: Wall-clock limit in seconds; None for no limit.
        memory_mb: Limit of address space in MiB; None for no limit.
        env: Extra environment variables.
    """

    script: Path
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    seed: int
    output_dir: Path
    timeout_s: float | None
    memory_mb: int | None
    env: Mapping[str, str]


class Platform(Protocol):
    """Where training runs.

    Attributes:
        name: ``local``, ``sagemaker`` ...
    """

    name: str

    def run(self, job: TrainingJob, log: Callable[[str], None]) -> None:
        """Run the job to its end, handing each line of its output to `log` as it comes.

        Raises:
            TrainingError: The script failed, ran too long or used too much memory; a retry does not
                help.
        """
        ...

    def environment(self) -> dict[str, Any]:
        """Return interpreter, system and packages of the Python that scripts run in."""
        ...

    def cancel(self) -> None:
        """Stop the running job and everything it started."""
        ...
