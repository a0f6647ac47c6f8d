"""Files and folders that are whole and on disk, or not there at all, also after a crash."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file's bytes to disk, and let them appear under its name all at once.

    The name itself is on disk after `sync_folder`. What is left of a writer that died begins with a
    dot.

    Args:
        path: The file; what stood there is replaced.
        data: What it is to hold.
        mode: Permissions, less what the umask takes.

    Raises:
        OSError: It cannot be written; what stood there stands there still.
    """
    _appear(path, mode, lambda file: file.write(data))


def place_file(file: Path, path: Path, mode: int) -> None:
    """Copy a file to disk under another name, all at once.

    Args:
        file: What is copied.
        path: Where it appears; what stood there is replaced.
        mode: Permissions, less what the umask takes.

    Raises:
        OSError: It cannot be written; what stood there stands there still.
    """
    with file.open("rb") as source:
        _appear(path, mode, lambda target: shutil.copyfileobj(source, target))


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it, each one's name on disk before anything is put in it.

    Args:
        folder: Absolute.
        mode: Permissions of each, less what the umask takes.

    Raises:
        OSError: It cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent, mode)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to disk.

    Raises:
        OSError: It cannot be done.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _appear(path: Path, mode: int, write: Callable[[BinaryIO], object]) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink()
