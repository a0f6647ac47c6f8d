from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.io.store import _STORE_CACHE, ObjectStore
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlgov.errors import ConfigurationError, EvidenceError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.stores.evidence import ObjectEvidenceStore

if TYPE_CHECKING:
    from airflow_mlgov.service.ports import EvidenceStore

DOCUMENT = b'{"v":1,"type":"data_validation"}'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "evidence"


@pytest.fixture
def store(root: Path) -> EvidenceStore:
    return ObjectEvidenceStore(f"file://{root}")


def _file_of(root: Path, digest: Digest) -> Path:
    return root / "sha256" / digest.hex[:2] / f"{digest.hex[2:]}.json"


def _files_in(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_document_comes_back_from_the_address_that_its_digest_names(
    store: EvidenceStore, root: Path
) -> None:
    digest = store.put(DOCUMENT)

    assert digest == Digest.of(DOCUMENT)
    assert store.get(digest) == DOCUMENT
    assert _files_in(root) == [_file_of(root, digest)]
    assert _file_of(root, digest).stat().st_mode & 0o007 == 0


def test_keeping_a_document_twice_does_not_write_it_twice(store: EvidenceStore, root: Path) -> None:
    digest = store.put(DOCUMENT)
    before = _file_of(root, digest).stat()

    assert store.put(DOCUMENT) == digest

    after = _file_of(root, digest).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_half_written_document_is_replaced(
    store: EvidenceStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _file_of(root, Digest.of(DOCUMENT))
    path.parent.mkdir(parents=True)
    path.write_bytes(DOCUMENT[:7])

    digest = store.put(DOCUMENT)

    assert store.get(digest) == DOCUMENT
    assert "held other bytes" in caplog.text


def test_a_missing_document_says_where_it_should_be_and_what_to_do(
    store: EvidenceStore, root: Path
) -> None:
    digest = Digest.of(b"never kept")

    with pytest.raises(EvidenceError) as caught:
        store.get(digest)

    assert str(_file_of(root, digest)) in caught.value.problem
    assert "backup" in caught.value.remedy


@pytest.mark.parametrize("found", [b"", DOCUMENT[:-1], DOCUMENT.replace(b"1", b"2")])
def test_an_altered_document_is_refused(store: EvidenceStore, root: Path, found: bytes) -> None:
    digest = store.put(DOCUMENT)
    _file_of(root, digest).write_bytes(found)

    with pytest.raises(EvidenceError, match=f"was altered.*{Digest.of(found).hex}"):
        store.get(digest)


def test_a_folder_in_the_way_is_one_clear_error(store: EvidenceStore, root: Path) -> None:
    digest = Digest.of(DOCUMENT)
    _file_of(root, digest).mkdir(parents=True)

    with pytest.raises(EvidenceError, match="cannot be read"):
        store.get(digest)
    with pytest.raises(EvidenceError, match="cannot be written"):
        store.put(DOCUMENT)


def test_a_file_in_place_of_the_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("not a folder")

    with pytest.raises(EvidenceError, match=r"cannot be written.*evidence_url"):
        ObjectEvidenceStore(f"file://{tmp_path}/evidence").put(DOCUMENT)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_nothing_behind(
    store: EvidenceStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open = os.open

    def open_on_full_disk(path: Path, flags: int, *rest: int) -> int:
        descriptor = really_open(path, flags, *rest)
        if flags & os.O_WRONLY:
            full = really_open("/dev/full", os.O_WRONLY)
            os.dup2(full, descriptor)
            os.close(full)
        return descriptor

    monkeypatch.setattr(os, "open", open_on_full_disk)

    with pytest.raises(EvidenceError, match=r"No space left.*has space left") as caught:
        store.put(DOCUMENT)

    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert _files_in(root) == []


def test_a_crash_before_the_rename_leaves_no_evidence(
    store: EvidenceStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(descriptor: int) -> None:
        # Folders are synced on the way down; the document is the first file.
        if os.fstat(descriptor).st_size == len(DOCUMENT):
            raise Killed

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(Killed):
        store.put(DOCUMENT)

    with pytest.raises(EvidenceError, match="missing"):
        store.get(Digest.of(DOCUMENT))


def test_document_and_every_new_folder_are_synced(
    store: EvidenceStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(
        os,
        "fsync",
        lambda descriptor: synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink())),
    )

    path = _file_of(root, store.put(DOCUMENT))

    for folder in (path.parent, path.parent.parent, root, root.parent):
        assert str(folder) in synced
    assert any(name.startswith(str(path.parent / f".{path.name}.")) for name in synced)
    assert synced[-1] == str(path.parent)


def test_racing_writers_of_one_document_all_succeed(store: EvidenceStore, root: Path) -> None:
    document = os.urandom(1 << 16)

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(store.put, [document] * 24))

    assert set(digests) == {Digest.of(document)}
    assert _files_in(root) == [_file_of(root, Digest.of(document))]
    assert store.get(Digest.of(document)) == document


@pytest.mark.parametrize(
    "url", ["", "/var/evidence", "evidence", "file://", "file://evidence", "nope://bucket/x"]
)
def test_a_url_that_is_no_store_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="evidence_url") as caught:
        ObjectEvidenceStore(url)
    assert caught.value.remedy


class BucketFake(MemoryFileSystem):
    """An object store in memory; it cannot prove what a real one does in a race."""

    protocol = "bucketfake"
    store = {}  # noqa: RUF012
    loses = False

    def pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **options: object
    ) -> None:
        super().pipe_file(path, value[:-1] if self.loses else value, mode=mode, **options)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> BucketFake:
    files = BucketFake(skip_instance_cache=True)
    files.store.clear()
    monkeypatch.setitem(_STORE_CACHE, "s3", ObjectStore("s3", None, fs=files))
    return files


def test_a_bucket_keeps_and_checks_documents_too(bucket: BucketFake) -> None:
    store = ObjectEvidenceStore("s3://bank/evidence")
    digest = store.put(DOCUMENT)

    assert store.put(DOCUMENT) == digest
    assert store.get(digest) == DOCUMENT
    (key,) = bucket.store
    assert key.endswith(f"evidence/sha256/{digest.hex[:2]}/{digest.hex[2:]}.json")

    bucket.pipe_file(key, b"altered")
    with pytest.raises(EvidenceError, match="altered"):
        store.get(digest)
    store.put(DOCUMENT)
    assert store.get(digest) == DOCUMENT


def test_a_bucket_that_loses_bytes_is_found_out(bucket: BucketFake) -> None:
    bucket.loses = True

    with pytest.raises(EvidenceError, match="other bytes than were written"):
        ObjectEvidenceStore("s3://bank/evidence").put(DOCUMENT)


def test_evidence_does_not_turn_up_in_the_tasks_lineage(store: EvidenceStore) -> None:
    from airflow.sdk.lineage import get_hook_lineage_collector

    store.get(store.put(DOCUMENT))

    collected = get_hook_lineage_collector().collected_assets
    assert (collected.inputs, collected.outputs) == ([], [])
