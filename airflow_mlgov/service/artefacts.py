"""Model directories: what may stand in one, and the manifest of what does.

Every file is opened relative to its directory's descriptor and without following links, so a
directory that is swapped while it is read gives an error or a manifest of what was read, never of
something else.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

from airflow_mlgov.errors import ArtefactError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest, ManifestFile
from airflow_mlgov.service.pickles import find_pickle

_Found: TypeAlias = tuple[str, BufferedReader]

_MAX_DEPTH = 64
_COPY_BYTES = 1024 * 1024
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}
_NO_PICKLES = "Write JSON, a library's native text format, ONNX or safetensors instead of a pickle."
_PLAIN_FILES = "A model directory holds regular files and directories only; write a copy instead."


def hash_directory(path: Path, log: Callable[[str], None] | None = None) -> Manifest:
    """Return the manifest of a model directory: path, size and SHA-256 of every file in it.

    Dot-files count. Empty directories are no part of a manifest; each is named to `log`.

    Args:
        path: The model directory itself, no symbolic link.
        log: Told about each empty directory.

    Raises:
        ArtefactError: No directory, no file in it, a link, a special file, a pickle, a name that
            other systems cannot hold, or a file that changed while it was read; a retry does not
            help.

    Source:
        ISO/IEC 27001:2022 A.8.9: what is in use is identified by its content, not by its name.
    """
    return Manifest(tuple(_hashed(name, file) for name, file in _open_files(path, log)))


def check_directory(path: Path) -> None:
    """Refuse what `hash_directory` refuses, without reading every byte.

    Raises:
        ArtefactError: As `hash_directory`.
    """
    for _ in _open_files(path, None):
        continue


def copy_directory(source: Path, target: Path) -> Manifest:
    """Copy a model directory and return the manifest of the bytes that were written.

    Args:
        source: A model directory.
        target: Does not exist yet; made with mode 0700, its files with mode 0600.

    Raises:
        ArtefactError: As `hash_directory`, or the copy cannot be written.
    """
    files: list[ManifestFile] = []
    try:
        target.mkdir(mode=0o700, parents=True)
        for name, file in _open_files(source, None):
            copy = target / name
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.append(_copied(name, file, copy))
    except OSError as error:
        raise ArtefactError(
            f"Cannot copy {source} to {target}: {error.strerror or error}."
        ) from error
    return Manifest(tuple(files))


def fingerprint_file(path: Path) -> tuple[Digest, int]:
    """Return the digest and the length in bytes of one regular file; links to it are followed.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return Digest(hashlib.file_digest(file, "sha256").hexdigest()), file.tell()


def _hashed(name: str, file: BufferedReader) -> ManifestFile:
    before = os.fstat(file.fileno())
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    _refuse_changed(name, file, before)
    return ManifestFile(name, before.st_size, Digest(digest))


def _copied(name: str, file: BufferedReader, copy: Path) -> ManifestFile:
    before = os.fstat(file.fileno())
    sha256 = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(copy, flags, 0o600), "wb") as out:
        while block := file.read(_COPY_BYTES):
            sha256.update(block)
            out.write(block)
    _refuse_changed(name, file, before)
    return ManifestFile(name, before.st_size, Digest(sha256.hexdigest()))


def _refuse_changed(name: str, file: BufferedReader, before: os.stat_result) -> None:
    after = os.fstat(file.fileno())
    same = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    if not same or file.tell() != before.st_size:
        raise ArtefactError(
            f"Model file {name!r} changed while it was read.",
            remedy="Finish writing it before it is handed over.",
        )


def _open_files(root: Path, log: Callable[[str], None] | None) -> Iterator[_Found]:
    """Yield the relative path of each file and the file, open at its start and free of pickles."""
    try:
        with _descriptor(str(root), os.O_DIRECTORY, None) as directory:
            yield from _walk(directory, "", log or (lambda _line: None))
    except OSError as error:
        what = error.strerror or str(error)
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            what = "it holds, or is, a link or something else that is not a plain file or directory"
        raise ArtefactError(
            f"Cannot read the model directory {root}: {what}.", remedy=_PLAIN_FILES
        ) from error


def _walk(directory: int, prefix: str, log: Callable[[str], None]) -> Iterator[_Found]:
    if prefix.count("/") > _MAX_DEPTH:
        raise ArtefactError(f"The model directory is nested deeper than {_MAX_DEPTH} levels.")
    names = sorted(os.listdir(directory))
    if not names and prefix:
        log(f"The empty directory {prefix!r} is no part of the model version.")
    for name in names:
        path = prefix + name
        _check_name(path)
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            with _descriptor(name, os.O_DIRECTORY, directory) as child:
                yield from _walk(child, f"{path}/", log)
        else:
            yield from _one_file(directory, name, path, mode)


def _one_file(directory: int, name: str, path: str, mode: int) -> Iterator[_Found]:
    _refuse_special(path, mode)
    with _descriptor(name, 0, directory) as descriptor:
        _refuse_special(path, os.fstat(descriptor).st_mode)
        with open(descriptor, "rb", closefd=False) as file:
            if found := find_pickle(name, file):
                raise ArtefactError(
                    f"Model file {path!r} {found}; loading it would run code.", remedy=_NO_PICKLES
                )
            file.seek(0)
            yield path, file


def _refuse_special(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        raise ArtefactError(f"Model file {path!r} is {kind}.", remedy=_PLAIN_FILES)


def _check_name(path: str) -> None:
    if not path.isprintable() or "\\" in path or not unicodedata.is_normalized("NFC", path):
        raise ArtefactError(
            f"Model file name {path!r} is not portable.",
            remedy="Use printable Unicode in normalisation form C, without backslashes.",
        )


@contextmanager
def _descriptor(name: str, flags: int, directory: int | None) -> Iterator[int]:
    # O_NONBLOCK: what was a file a moment ago may be a pipe by now; opening one waits for a writer.
    flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
