"""What people and accidents do to what is stored of the last job, one method each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azureml_account import ACCOUNT, CONTAINER
from azureml_blobs import Blob, Blobs

if TYPE_CHECKING:
    from azureml_server import Job


class Tampering:
    """A part of `FakeAzure`."""

    blobs: Blobs

    def corrupt(self, how: str) -> None:
        """Change what is stored of the last job's model, or of the scores that it wrote."""
        held, names = self._output()
        name = next(each for each in names if "/model/" in each or each.endswith(".scores.csv"))
        data = held[name].data
        held[name].data = data[:-1] if how == "truncate" else _flipped(data)

    def corrupt_package(self) -> None:
        """Change the model's file in the package that was staged for scoring; its size stays."""
        held = self.blobs.of(ACCOUNT, CONTAINER)
        blob = held[next(name for name in sorted(held) if _in_package(name, held))]
        blob.data = _flipped(blob.data)

    def drop_scores(self) -> None:
        """Remove one stored file of scores of the last job."""
        held, names = self._output()
        del held[next(name for name in names if name.endswith(".scores.csv"))]

    def write_log(self, text: str) -> None:
        """Add to what the last job has said."""
        name = f"ExperimentRun/dcid.{self._job().name}/user_logs/std_log.txt"
        held = self.blobs.of(ACCOUNT, "azureml")
        before = held[name].data if name in held else b""
        held[name] = Blob(before + text.encode())

    def _output(self) -> tuple[dict[str, Blob], list[str]]:
        """Return the container that the last job wrote to, and the names of what it wrote."""
        held, folder = self._place(self._job().properties["outputs"]["mlgov_output"]["uri"])
        return held, [name for name in sorted(held) if name.startswith(f"{folder}/")]

    def _job(self) -> Job:
        raise NotImplementedError

    def _place(self, uri: str) -> tuple[dict[str, Blob], str]:
        raise NotImplementedError


def _in_package(name: str, held: dict[str, Any]) -> bool:
    folder, model, _ = name.partition("/model/")
    return bool(model) and f"{folder}/mlgov-entry.pyz" in held


def _flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]
