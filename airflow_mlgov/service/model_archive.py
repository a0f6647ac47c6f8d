"""Model folders as one ``.tar.gz``, where a vendor wants one: the same bytes for the same files."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from airflow_mlgov.errors import ArtefactError

_MAX_MEMBERS = 100_000
_BLOCK = 1024 * 1024


def pack(folder: Path, archive: Path) -> None:
    """Write a folder's files to an archive, as `pack_files` does.

    Args:
        folder: Checked by `airflow_mlgov.service.artefacts.hash_directory`.
        archive: Made, or written anew.
    """
    pack_files({path.relative_to(folder).as_posix(): path for path in _files(folder)}, archive)


def pack_files(files: Mapping[str, Path], archive: Path) -> None:
    """Write files to an archive: sorted, without times, owners and rights of their own.

    Args:
        files: By relative path in the archive.
        archive: Made, or written anew.
    """
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, file in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = file.stat().st_size
            with file.open("rb") as content:
                tar.addfile(member, content)


def unpack(archive: Path, into: Path, most_bytes: int) -> None:
    """Write the files of an archive, and nothing else, to a folder.

    Args:
        archive: Of anybody's making.
        into: An empty folder, or one that is made, with mode 0700; its files get mode 0600.
        most_bytes: How long all files may be together.

    Raises:
        ArtefactError: It is cut short or damaged, too large, or holds links, special files, a name
            twice or paths that leave the folder; a retry does not help.
    """
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with gzip.open(archive) as packed:
            with tarfile.open(fileobj=packed, mode="r|") as tar:
                _unpack(tar, into, most_bytes)
            while packed.read(_BLOCK):
                pass  # to the end, where the checksum stands
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArtefactError(f"The archive is cut short or damaged: {error}.") from error
    except OSError as error:
        raise ArtefactError(f"The archive cannot be unpacked to {into}: {error}.") from error


def _files(folder: Path) -> list[Path]:
    return [Path(root, name) for root, _, names in os.walk(folder) for name in names]


def _unpack(tar: tarfile.TarFile, into: Path, most_bytes: int) -> None:
    left = most_bytes
    for count, member in enumerate(tar):
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
            raise ArtefactError(f"The archive holds a path that leaves it: {member.name!r}.")
        if not (member.isdir() or member.isreg()):
            raise ArtefactError(f"The archive holds {member.name!r}, a link or a special file.")
        left -= member.size
        if left < 0 or count >= _MAX_MEMBERS:
            raise ArtefactError(
                f"The archive holds more than {most_bytes} bytes or {_MAX_MEMBERS} files."
            )
        if member.isdir():
            (into / path).mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            _write(tar, member, into / path)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = tar.extractfile(member)
    if content is None:
        raise ArtefactError(f"The archive holds {member.name!r} without its bytes.")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(target, flags, 0o600), "wb") as out:
        while block := content.read(_BLOCK):
            out.write(block)
    if target.stat().st_size != member.size:
        raise ArtefactError(f"The archive is cut short: {member.name!r} has not all its bytes.")
