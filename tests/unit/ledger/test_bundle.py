"""The bundle's file: one form for one content, and everything else refused."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger import bundle as bundle_module
from airflow_mlgov.ledger.bundle import BundleHeader, read_bundle, write_bundle
from airflow_mlgov.records.canonical import canonical_bytes, parse_canonical
from airflow_mlgov.records.digest import Digest

GOLDEN = Path(__file__).parents[2] / "assets" / "ledger" / "bundle-v1.zip"
HEADER = BundleHeader("log", "retail_pd", Digest("0" * 64), 1, "ab" * 32)
FILES = {"checkpoint": b"note", "entries/0.dsse": b"leaf", "proofs/0.tlog-proof": b"proof"}


def zipped(files, *, header=None, compression=zipfile.ZIP_STORED, change=None, comment=b""):
    """A bundle as somebody else's ZIP writer makes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.comment = comment
        for name, content in files:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o100644 << 16
            info.compress_type = compression
            if change:
                change(info)
            archive.writestr(info, content)
    return buffer.getvalue()


def members(data=None):
    with zipfile.ZipFile(io.BytesIO(data or write_bundle(HEADER, FILES))) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def test_what_is_written_is_read_again():
    bundle = read_bundle(write_bundle(HEADER, FILES))
    assert (bundle.header, bundle.files, bundle.lacking) == (HEADER, FILES, ())


def test_the_same_content_is_the_same_bytes_in_any_order():
    turned = dict(reversed(FILES.items()))
    assert write_bundle(HEADER, turned) == write_bundle(HEADER, FILES)


def test_any_zip_reader_reads_it():
    with zipfile.ZipFile(io.BytesIO(write_bundle(HEADER, FILES))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted([*FILES, "bundle.json"])
        assert {name: archive.read(name) for name in FILES} == FILES
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_plain_zip_writer_makes_the_same_bytes():
    assert zipped(members()) == write_bundle(HEADER, FILES)


@pytest.mark.attack(26, 27)
@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "entries/../../evil",
        "/etc/passwd",
        "C:\\evil",
        "entries\\0.dsse",
        "Checkpoint",
        "ENTRIES/0.dsse",
        "entries/00.dsse",
        "entries/",
        "entries/0.dsse\n",
        "trust.json",
        "keys/log.vkey",
        "evidence/" + "A" * 64,
        "checkp\u043eint",
    ],
)
def test_other_names_are_refused_when_read_and_when_written(name):
    with pytest.raises(LedgerIntegrityError, match=r"may not be in a bundle"):
        read_bundle(zipped([*members(), (name, b"x")]))
    with pytest.raises(LedgerIntegrityError, match=r"may not be in a bundle"):
        write_bundle(HEADER, {**FILES, name: b"x"})


@pytest.mark.attack(27)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused():
    with pytest.raises(LedgerIntegrityError, match="twice"):
        read_bundle(zipped([*members(), ("checkpoint", b"other")]))


@pytest.mark.attack(27)
def test_what_is_compressed_is_refused_unread():
    with pytest.raises(LedgerIntegrityError, match="compressed"):
        read_bundle(zipped(members(), compression=zipfile.ZIP_DEFLATED))
    bomb = zipped([("checkpoint", b"\0" * 10_000_000)], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(LedgerIntegrityError, match="compressed"):
        read_bundle(bomb)


@pytest.mark.attack(27)
@pytest.mark.parametrize("size", [5, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_file_that_says_it_is_longer_than_it_is(size):
    data = bytearray(zipped([("checkpoint", b"note")]))
    struct.pack_into("<2L", data, 18, size, size)
    with pytest.raises(LedgerIntegrityError, match=r"longer than the bundle|one form"):
        read_bundle(bytes(data))


@pytest.mark.attack(27)
def test_links_other_dates_other_order_and_comments_are_refused():
    def link(info):
        info.external_attr = 0o120777 << 16

    def today(info):
        info.date_time = (2026, 1, 1, 0, 0, 0)

    def extra(info):
        info.extra = b"\x01\x00\x00\x00"

    for change in (link, today, extra):
        with pytest.raises(LedgerIntegrityError, match=r"one form|may not be"):
            read_bundle(zipped(members(), change=change))
    for data in (zipped(members()[::-1]), zipped(members(), comment=b"trust me")):
        with pytest.raises(LedgerIntegrityError, match="one form"):
            read_bundle(data)


def test_bytes_before_or_after_and_every_cut_are_refused():
    data = write_bundle(HEADER, FILES)
    for other in (b"#!/bin/sh\n" + data, data + b"\n", data + data, b"", b"PK\5\6" + bytes(18)):
        with pytest.raises(LedgerIntegrityError):
            read_bundle(other)
    for length in range(len(data)):
        with pytest.raises(LedgerIntegrityError):
            read_bundle(data[:length])


def test_every_flipped_bit_is_refused():
    data = write_bundle(HEADER, FILES)
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(LedgerIntegrityError):
            read_bundle(bytes(broken))


def test_too_many_files_or_bytes(monkeypatch):
    data = write_bundle(HEADER, FILES)
    monkeypatch.setattr(bundle_module, "MAX_FILES", 3)
    for call in (lambda: read_bundle(data), lambda: write_bundle(HEADER, FILES)):
        with pytest.raises(LedgerIntegrityError, match="more than 3"):
            call()
    monkeypatch.undo()
    monkeypatch.setattr(bundle_module, "MAX_BUNDLE_BYTES", 200)
    for call in (lambda: read_bundle(data), lambda: write_bundle(HEADER, FILES)):
        with pytest.raises(LedgerIntegrityError, match=r"200"):
            call()


def with_list(change) -> bytes:
    files = dict(members())
    value = parse_canonical(files["bundle.json"])
    change(value)
    files["bundle.json"] = canonical_bytes(value)
    return zipped(sorted(files.items()))


def test_a_file_that_is_not_listed_is_refused_and_one_that_lacks_is_told():
    with pytest.raises(LedgerIntegrityError, match=r"checkpoint is in the bundle and not in"):
        read_bundle(with_list(lambda value: value["files"].pop("checkpoint")))
    listed = with_list(lambda v: v["files"].update({"entries/9.dsse": {"size": 1, "sha256": ""}}))
    assert read_bundle(listed).lacking == ("entries/9.dsse",)


@pytest.mark.attack(26)
@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": True},
        {"size": "1"},
        {"size": True},
        {"model": None},
        {"version": "7"},
        {"version": 7},
        {"files": []},
        {"files": {"../evil": {}}},
        {"could_not_be_had": ["trust.json"]},
        {"could_not_be_had": [["checkpoint"]]},
        {"trust": {"log_keys": []}},
    ],
)
def test_a_malformed_list_is_refused(change):
    with pytest.raises(LedgerIntegrityError):
        read_bundle(with_list(lambda value: value.update(change)))


def test_the_golden_bundle_is_read_and_written_for_ever(bundled):
    data = GOLDEN.read_bytes()
    bundle = read_bundle(data)
    assert write_bundle(bundle.header, bundle.files) == data
    assert bundled.data() == data
