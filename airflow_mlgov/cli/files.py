"""Files that commands read and write."""

from __future__ import annotations

import secrets
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError


def read_whole(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ConfigurationError: It cannot be read; a retry does not help.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}.") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, in place of what stood there.

    Raises:
        ConfigurationError: It cannot be written; a retry does not help.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}.") from error
