from __future__ import annotations

import bz2
import collections
import gzip
import hashlib
import io
import lzma
import os
import pickle
import random
import socket
import tarfile
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from airflow_mlgov.errors import ArtefactError
from airflow_mlgov.service import artefacts
from airflow_mlgov.service.artefacts import check_directory, copy_directory, hash_directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    (path / "nested").mkdir(parents=True)
    (path / "scorecard.json").write_text('{"intercept": -1.5}')
    (path / "nested" / "bins.json").write_text("[]")
    (path / ".note").write_text("dot-files count")
    return path


def test_manifest_states_path_size_and_sha256_of_every_file(model: Path) -> None:
    files = hash_directory(model).files
    assert [(f.path, f.size_bytes) for f in files] == [
        (".note", 15),
        ("nested/bins.json", 2),
        ("scorecard.json", 19),
    ]
    expected = hashlib.sha256((model / "scorecard.json").read_bytes()).hexdigest()
    assert files[2].sha256.hex == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda m: (m / "scorecard.json").write_text('{"intercept": -1.6}'),
        lambda m: (m / "scorecard.json").rename(m / "card.json"),
        lambda m: (m / ".hidden").write_text(""),
        lambda m: (m / "nested" / "bins.json").unlink(),
    ],
    ids=["byte", "rename", "dot-file", "removed"],
)
def test_any_change_is_another_version(model: Path, change) -> None:
    before = hash_directory(model).digest
    change(model)
    assert hash_directory(model).digest != before


def test_order_and_time_of_writing_do_not_matter(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert copy_directory(model, copy).digest == hash_directory(model).digest
    assert hash_directory(copy).digest == hash_directory(model).digest
    assert copy.stat().st_mode & 0o777 == 0o700


def test_empty_directories_are_stated_and_left_out(model: Path) -> None:
    before = hash_directory(model).digest
    (model / "empty").mkdir()
    lines: list[str] = []
    assert hash_directory(model, lines.append).digest == before
    assert lines == ["The empty directory 'empty/' is no part of the model version."]


def _symlink(m: Path) -> None:
    (m / "link").symlink_to("/etc/hostname")


def _linked_directory(m: Path) -> None:
    (m / "linked").symlink_to(m / "nested", target_is_directory=True)


def _socket(m: Path) -> None:
    here = Path.cwd()
    os.chdir(m)  # a socket's path is limited to about 100 bytes
    try:
        socket.socket(socket.AF_UNIX).bind("sock")
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_symlink, "'link' is a symbolic link"),
        (_linked_directory, "'linked' is a symbolic link"),
        (lambda m: os.mkfifo(m / "pipe"), "'pipe' is a named pipe"),
        (_socket, "'sock' is a socket"),
        (lambda m: (m / "a\nb").write_text(""), "not portable"),
        (lambda m: (m / "cafe\u0301").write_text(""), "not portable"),
        (lambda m: (m / "back\\slash").write_text(""), "not portable"),
        (lambda m: (m / os.fsdecode(b"\xff")).write_text(""), "not portable"),
        (lambda m: (m / "SCORECARD.json").write_text(""), "differ in case"),
        (lambda m: (m / "weights.pkl").write_text("{}"), "is called a pickle"),
        (lambda m: (m / "weights.JOBLIB").write_text("{}"), "is called a pickle"),
    ],
)
def test_what_may_not_be_there_is_refused(model: Path, spoil, says: str) -> None:
    spoil(model)
    with pytest.raises(ArtefactError, match=says):
        hash_directory(model)


def _zip(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr(name, content)
    return out.getvalue()


def _tar(content: bytes, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        info = tarfile.TarInfo("inner/data")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


_BAD = collections.OrderedDict(a=1)
PICKLES = {
    **{f"protocol {p}": pickle.dumps(_BAD, protocol=p) for p in range(6)},
    "long protocol 0": pickle.dumps([_BAD, "x" * 200_000], protocol=0),
    "gzip": gzip.compress(pickle.dumps(_BAD)),
    "zlib": zlib.compress(pickle.dumps(_BAD)),
    "bz2": bz2.compress(pickle.dumps(_BAD)),
    "xz": lzma.compress(pickle.dumps(_BAD)),
    "lzma": lzma.compress(pickle.dumps(_BAD), format=lzma.FORMAT_ALONE),
    "lz4": b"\x04\x22\x4d\x18" + b"?" * 20,
    "torch zip": _zip("archive/data.pkl", pickle.dumps(_BAD)),
    "zip by content": _zip("weights", pickle.dumps(_BAD)),
    "tar": _tar(pickle.dumps(_BAD)),
    "tar.gz": _tar(pickle.dumps(_BAD), "w:gz"),
    "zip in zip": _zip("a", _zip("b", pickle.dumps(_BAD))),
    "nested too deep": _zip("a", _zip("b", _zip("c", _zip("d", b"?")))),
    "broken zip": _zip("a", b"?")[:-10],
    "object array": _npy(np.array([_BAD], dtype=object)),
    "npz of objects": _zip("a.npy", _npy(np.array([_BAD], dtype=object))),
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_are_found_whatever_they_are_called(model: Path, name: str) -> None:
    (model / "weights.bin").write_bytes(PICKLES[name])
    with pytest.raises(ArtefactError, match=r"'weights\.bin' is|'weights\.bin' starts"):
        check_directory(model)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"tree\nversion=v4\nnum_class=1\n",
        b'{"bins": [1, 2]}',
        b"customer_id,limit\n1,2\n",
        b"columns\nage\nincome\n.",
        b"x^2 is no zlib stream",
        b"BZh is no bzip2 stream",
        _npy(np.arange(3.0)),
        _zip("weights.json", b"{}"),
        gzip.compress(b'{"a": 1}', mtime=0),
        _tar(b"text", "w:gz"),
        random.Random(7).randbytes(100).replace(b"\x80", b"\x00"),
    ],
    ids=[f"plain{number}" for number in range(12)],
)
def test_plain_formats_are_no_pickles(model: Path, content: bytes) -> None:
    (model / "weights.bin").write_bytes(content)
    check_directory(model)


def test_a_missing_empty_or_linked_directory_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="No such file"):
        hash_directory(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtefactError, match="without files"):
        hash_directory(tmp_path / "empty")
    (tmp_path / "link").symlink_to(model)
    with pytest.raises(ArtefactError, match="link"):
        hash_directory(tmp_path / "link")
    with pytest.raises(ArtefactError, match="plain file or directory"):
        hash_directory(model / "scorecard.json")


def test_a_file_swapped_for_a_link_or_pipe_after_it_was_looked_at_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_stat, victim = os.stat, model / "scorecard.json"

    def stat_then_swap(name, **kwargs):
        status = real_stat(name, **kwargs)
        if name == "scorecard.json" and victim.is_file() and not victim.is_symlink():
            victim.unlink()
            victim.symlink_to("/etc/hostname") if swap == "link" else os.mkfifo(victim)
        return status

    monkeypatch.setattr(artefacts.os, "stat", stat_then_swap)
    swap = "link"
    with pytest.raises(ArtefactError, match="link"):
        hash_directory(model)
    victim.unlink()
    victim.write_text("{}")
    swap = "pipe"
    with pytest.raises(ArtefactError, match="named pipe"):
        hash_directory(model)


def test_a_file_that_grows_while_it_is_read_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashlib.file_digest

    def grow(file, name):
        digest = real(file, name)
        with (model / "scorecard.json").open("a") as more:
            more.write("x")
        return digest

    monkeypatch.setattr(artefacts.hashlib, "file_digest", grow)
    with pytest.raises(ArtefactError, match="changed while it was read"):
        hash_directory(model)


def test_depth_is_bounded(tmp_path: Path) -> None:
    deep = tmp_path / "m" / "/".join(["d"] * 70)
    deep.mkdir(parents=True)
    with pytest.raises(ArtefactError, match="nested deeper"):
        hash_directory(tmp_path / "m")


def test_copies_are_private_and_never_overwrite(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "private" / "model"
    copy_directory(model, target)
    assert {p.stat().st_mode & 0o077 for p in target.rglob("*")} == {0}
    with pytest.raises(ArtefactError, match="File exists"):
        copy_directory(model, target)


def test_a_pipe_without_a_writer_does_not_hang(model: Path) -> None:
    os.mkfifo(model / "pipe")
    ended = threading.Event()

    def run() -> None:
        with pytest.raises(ArtefactError):
            hash_directory(model)
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert ended.wait(5)
