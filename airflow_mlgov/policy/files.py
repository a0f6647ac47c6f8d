"""Files of rules: which ones a folder holds, their bytes, ids in them; cheap to import."""

from __future__ import annotations

import os
import re
from pathlib import Path

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.yaml_nodes import MAX_BYTES

_ENDINGS = (".yaml", ".yml")
_USUAL_BYTES = 32 * 1024
_REST_BYTES = MAX_BYTES + 1 - _USUAL_BYTES


def read_bytes(file: str | Path) -> bytes:
    """Return a file's bytes, at most one more than `MAX_BYTES`.

    Raises:
        DocumentError: Missing or unreadable; a retry does not help.
    """
    try:
        with Path(file).open("rb") as stream:
            start = stream.read(_USUAL_BYTES)
            # Room for the most there may be is not asked for without need.
            return start if len(start) < _USUAL_BYTES else start + stream.read(_REST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError(
            f"cannot be read ({reason}).",
            file=str(file),
            remedy="Check the path and its permissions.",
        ) from error


def yaml_files(path: str | Path) -> list[Path]:
    """Return the YAML files of a folder in the order of their names, or the one file that is named.

    Sub-folders and hidden files are left alone: a mounted Kubernetes ConfigMap keeps copies in
    hidden folders.

    Raises:
        DocumentError: There is no such file or folder; a retry does not help.
    """
    place = Path(path)
    try:
        if place.is_dir():
            with os.scandir(place) as found:
                names = [file.name for file in found if file.is_file()]
            return [
                place / name
                for name in sorted(names)
                if name.endswith(_ENDINGS) and not name.startswith(".")
            ]
    except OSError as error:
        raise DocumentError(
            f"the folder cannot be read ({error.strerror}).",
            file=str(path),
            remedy="Check its permissions.",
        ) from error
    if not place.exists():
        raise DocumentError(
            "there is no such file or folder.",
            file=str(path),
            remedy="Check the path, or write a skeleton with `airflow mlgov init`.",
        )
    return [place]


def mentions(text: str, word: str) -> bool:
    """Tell whether an id stands in a text, and not as a part of another."""
    if word not in text:
        return False
    return re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w.-])", text) is not None
