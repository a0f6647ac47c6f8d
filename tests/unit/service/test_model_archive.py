from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from airflow_mlgov.errors import ArtefactError
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.model_archive import pack, unpack

MOST = 1024 * 1024


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "a" / ("deep" * 30)).mkdir(parents=True)
    (folder / "a" / ("deep" * 30) / "b é.json").write_text("{}")
    (folder / "z.bin").write_bytes(os.urandom(100_000))
    (folder / ".note").touch()
    return folder


def test_a_folder_comes_out_as_it_went_in(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "m.tar.gz")
    unpack(tmp_path / "m.tar.gz", tmp_path / "out", MOST)
    assert hash_directory(tmp_path / "out") == hash_directory(model)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "out" / "z.bin").stat().st_mode & 0o777 == 0o600


def test_the_same_files_are_the_same_bytes(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "1.tar.gz")
    copy = tmp_path / "elsewhere"
    unpack(tmp_path / "1.tar.gz", copy, MOST)
    os.utime(copy / "z.bin", (1, 1))
    (copy / "z.bin").chmod(0o755)
    pack(copy, tmp_path / "other-name.tar.gz")
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "other-name.tar.gz").read_bytes()


def _archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 1):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    member.size = size if kind == tarfile.REGTYPE else 0
    return member, b"x" * member.size


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (_member("../out.json"), "leaves it"),
        (_member("/etc/x"), "leaves it"),
        (_member("model/../../x"), "leaves it"),
        (_member("a\\b"), "leaves it"),
        (_member("link", tarfile.SYMTYPE, "/etc/passwd"), "link or a special file"),
        (_member("hard", tarfile.LNKTYPE, "first"), "link or a special file"),
        (_member("pipe", tarfile.FIFOTYPE), "link or a special file"),
        (_member("device", tarfile.CHRTYPE), "link or a special file"),
        (_member("large", size=MOST + 1), "more than"),
        (_member("first"), "cannot be unpacked"),
        (_member("first/below"), "cannot be unpacked"),
    ],
)
def test_what_is_no_model_is_refused(member, words: str, tmp_path: Path) -> None:
    archive = _archive(tmp_path / "m.tar.gz", _member("first"), member)
    with pytest.raises(ArtefactError, match=words):
        unpack(archive, tmp_path / "out", MOST)
    assert not (tmp_path / "out.json").exists()


def test_every_truncation_is_found(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "m.tar.gz")
    whole = (tmp_path / "m.tar.gz").read_bytes()
    cut = tmp_path / "cut.tar.gz"
    for length in (0, 1, 10, 600, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(ArtefactError, match="cut short"):
            unpack(cut, tmp_path / f"out{length}", MOST)


def test_a_changed_byte_is_found_and_other_files_are_no_archives(
    model: Path, tmp_path: Path
) -> None:
    pack(model, tmp_path / "m.tar.gz")
    changed = bytearray((tmp_path / "m.tar.gz").read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "changed").write_bytes(changed)
    (tmp_path / "text").write_text("not an archive")
    (tmp_path / "packed text").write_bytes(gzip.compress(b"x" * 2000))
    for number, name in enumerate(("changed", "text", "packed text")):
        with pytest.raises(ArtefactError, match="cut short or damaged"):
            unpack(tmp_path / name, tmp_path / f"out{number}", MOST)


def test_a_bomb_stops_at_its_bound(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "m.tar.gz", *[_member(f"{i}", size=MOST // 4) for i in range(9)])
    with pytest.raises(ArtefactError, match="more than"):
        unpack(archive, tmp_path / "out", MOST)
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) <= MOST
