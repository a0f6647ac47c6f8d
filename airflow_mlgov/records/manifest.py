"""The manifest: what a model version is.

A model version's identity is the digest of its manifest: every file's path, size and SHA-256, in
canonical JSON. A rename, an added dot-file or a changed byte is another version.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from airflow_mlgov.errors import ArtefactError
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest


@dataclass(frozen=True, slots=True, order=True)
class ManifestFile:
    """One file of a model.

    Attributes:
        path: Relative POSIX path inside the model's folder.
        size_bytes: Length of the file.
        sha256: Digest of its content.
    """

    path: str
    size_bytes: int
    sha256: Digest

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if (
            not parts
            or self.path.startswith("/")
            or ".." in parts
            or "\\" in self.path
            or "\0" in self.path
        ):
            raise ArtefactError(
                f"Model file path {self.path!r} leaves the model's folder or is not portable."
            )


@dataclass(frozen=True)
class Manifest:
    """Every file of a model version, sorted by path.

    Attributes:
        files: At least one file; no path twice, nor two paths that differ in case only.
    """

    files: tuple[ManifestFile, ...]

    def __post_init__(self) -> None:
        if not self.files:
            raise ArtefactError("A model without files has no manifest.")
        folded = {file.path.casefold() for file in self.files}
        if len(folded) != len(self.files):
            raise ArtefactError(
                "Two model files have the same path, or paths that differ in case only."
            )
        object.__setattr__(self, "files", tuple(sorted(self.files)))

    @cached_property
    def digest(self) -> Digest:
        """The model version's identity."""
        return Digest.of(self.canonical())

    def canonical(self) -> bytes:
        """Return the manifest in canonical JSON, the bytes that `digest` is of."""
        return canonical_bytes(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values, version 1 of its wire format."""
        files = [{"path": f.path, "sha256": f.sha256.hex, "size": f.size_bytes} for f in self.files]
        return {"v": 1, "files": files}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Manifest:
        """Return the manifest that `as_json` wrote.

        Raises:
            ArtefactError: Another version, or a malformed document.
        """
        try:
            if value["v"] != 1:
                raise ArtefactError(
                    f"Manifest version {value['v']!r} is not known; this code reads 1."
                )
            return cls(
                tuple(
                    ManifestFile(f["path"], f["size"], Digest(f["sha256"])) for f in value["files"]
                )
            )
        except (KeyError, TypeError) as error:
            raise ArtefactError(f"Malformed manifest: {error!r}.") from error
