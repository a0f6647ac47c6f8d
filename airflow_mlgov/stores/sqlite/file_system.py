"""Where a ledger's file may be, and who may read it."""

from __future__ import annotations

import os
import re
import uuid
from contextlib import suppress
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError

FILE_MODE, FOLDER_MODE = 0o640, 0o750
"""Permissions of what we make, less what the umask takes: a ledger holds names and comments."""
MOUNTS = Path("/proc/self/mounts")
_OF_THE_NETWORK = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre"),
        *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs"),
        *("fuse.ceph", "fuse.ceph-fuse", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys"),
        *("fuse.mount-s3", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    }
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


def network_file_system(folder: Path, *, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the network file system that a folder is on; None if it is on none.

    Args:
        folder: Absolute; it need not be there yet.
        mounts: What is mounted where, as the kernel says it. Where there is no such file (not on
            Linux), nothing is known and the answer is None.
    """
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    place, depth, kind = folder.resolve(), -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[1]))
        # Of two mounts at one point the later hides the earlier.
        if place.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), fields[2]
    return kind if kind in _OF_THE_NETWORK else None


def refuse_network(file: Path) -> None:
    """Do nothing if SQLite can keep a ledger in this file.

    Raises:
        ConfigurationError: It is on a network file system; a retry does not help.

    Source:
        SQLite, "Write-Ahead Logging": all processes must be on the same machine, since WAL does not
        work over a network file system.
    """
    kind = network_file_system(file.parent, mounts=MOUNTS)
    if kind is not None:
        raise ConfigurationError(
            f"The ledger's file {file} is on a network file system ({kind}), where SQLite can lose "
            "what it acknowledged.",
            remedy="Keep it on a local disk, or set [mlgov] ledger_url to a PostgreSQL database.",
        )


def make_private(path: Path) -> None:
    """Make an empty file that others cannot read; SQLite gives its companions the same rights."""
    if path.exists():
        return
    # Made under another name: to close the ledger's own file, here, would free the POSIX locks that
    # other threads hold on it through SQLite.
    own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    os.close(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    try:
        with suppress(FileExistsError):  # another process was faster
            os.link(own, path)
    finally:
        own.unlink()
