"""Network file systems are found by what the kernel says is mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.stores.sqlite import SqliteStore, file_system
from airflow_mlgov.stores.sqlite.file_system import network_file_system

MOUNTED = """\
/dev/sda1 / ext4 rw 0 0
proc /proc proc rw 0 0
server:/export /shared nfs4 rw 0 0
/dev/sdb1 /shared/local xfs rw 0 0
//server/share /with\\040space cifs rw 0 0
me@host:/ /home/me/far fuse.sshfs rw 0 0
tmpfs /twice tmpfs rw 0 0
server:/vol /twice glusterfs rw 0 0
malformed
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/shared", "nfs4"),
        ("/shared/a/b", "nfs4"),
        ("/shared/../shared/a", "nfs4"),
        ("/shared/local/a", None),
        ("/sharedness", None),
        ("/with space/a", "cifs"),
        ("/home/me/far/a", "fuse.sshfs"),
        ("/home/me", None),
        ("/twice", "glusterfs"),
        ("/", None),
    ],
)
def test_the_innermost_and_last_mount_counts(tmp_path: Path, folder: str, kind: str | None) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTED)
    assert network_file_system(Path(folder), mounts=mounts) == kind


def test_where_nothing_is_known_nothing_is_refused(tmp_path: Path) -> None:
    assert network_file_system(tmp_path, mounts=tmp_path / "none") is None


def test_a_ledger_is_not_made_on_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/e {tmp_path}/far nfs rw 0 0\n")
    monkeypatch.setattr(file_system, "MOUNTS", mounts)
    with pytest.raises(ConfigurationError, match=r"\(nfs\)") as caught:
        SqliteStore(tmp_path / "far" / "ledger.db").head()
    assert "PostgreSQL" in caught.value.remedy
    assert not (tmp_path / "far").exists()
    assert SqliteStore(tmp_path / "near" / "ledger.db").waiting() == 0
