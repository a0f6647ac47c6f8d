"""The bundle's file: one form for one content, and everything else refused."""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger import bundle as bundle_module
from airflow_mlgov.ledger.bundle import BundleHeader, files_due, read_bundle, write_bundle
from airflow_mlgov.ledger.view import SealedEntry
from airflow_mlgov.records.canonical import canonical_bytes, parse_canonical
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.source import Source

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
    bomb = zipped([("checkpoint", b"\0" * 10_000_000)], compression=zipfile.ZIP_DEFLATED)
    for data in (bomb, zipped(members(), compression=zipfile.ZIP_DEFLATED)):
        with pytest.raises(LedgerIntegrityError, match="one form: something compressed"):
            read_bundle(data)


@pytest.mark.attack(27)
@pytest.mark.parametrize("size", [5, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_file_that_says_it_is_longer_than_it_is(size):
    data = bytearray(zipped([("checkpoint", b"note")]))
    struct.pack_into("<2L", data, 18, size, size)
    with pytest.raises(LedgerIntegrityError, match="one form"):
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


def test_a_name_from_outside_is_never_printed_as_it_is():
    name = "a\x1b[2J"
    file = zipped([(name, b"x")])[: 30 + len(name) + 1]
    with pytest.raises(LedgerIntegrityError, match=r"may not be in a bundle") as told:
        read_bundle(file * 2)
    assert "\x1b" not in str(told.value)


def test_the_limits_are_those_of_the_format():
    assert (bundle_module.MAX_FILES, bundle_module.MAX_BUNDLE_BYTES) == (60_000, 2**29)


def test_no_bundle_is_written_that_is_too_long_to_be_read(monkeypatch):
    data = write_bundle(HEADER, FILES)
    calls = (lambda: read_bundle(data), lambda: write_bundle(HEADER, FILES))
    for limit, most in (("MAX_FILES", len(FILES) + 1), ("MAX_BUNDLE_BYTES", len(data))):
        monkeypatch.setattr(bundle_module, limit, most)
        assert read_bundle(data).files == FILES
        assert write_bundle(HEADER, FILES) == data
        monkeypatch.setattr(bundle_module, limit, most - 1)
        for call in calls:
            with pytest.raises(LedgerIntegrityError, match=f"has more than {most - 1} "):
                call()
        monkeypatch.undo()


def test_what_is_past_the_limits_is_not_read_on(monkeypatch):
    first = 30 + len("checkpoint") + len(FILES["checkpoint"])
    data = zipped([("checkpoint", FILES["checkpoint"])])[:first]
    data += zipped([("trust.json", b"{}")])
    for limit, most in (("MAX_FILES", 1), ("MAX_BUNDLE_BYTES", len(data) - 1)):
        monkeypatch.setattr(bundle_module, limit, most)
        with pytest.raises(LedgerIntegrityError, match=f"has more than {most} "):
            read_bundle(data)
        monkeypatch.undo()


def test_contents_too_long_are_refused_before_they_are_put_together(monkeypatch):
    monkeypatch.setattr(bundle_module, "MAX_BUNDLE_BYTES", 200)
    with pytest.raises(LedgerIntegrityError, match="has more than 200 bytes"):
        write_bundle(HEADER, {"trust.json": b"x" * 201})


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


def test_lists_are_in_order_whatever_order_they_were_given_in():
    names = [f"entries/{index}.dsse" for index in range(9, 0, -1)]
    listed = with_list(lambda v: v["files"].update({name: {} for name in names}))
    assert read_bundle(listed).lacking == tuple(names[::-1])
    header = replace(HEADER, could_not_be_had=tuple(names))
    assert read_bundle(write_bundle(header, FILES)).header.could_not_be_had == tuple(names[::-1])


def test_a_file_that_is_not_as_listed_is_refused():
    changed = {**dict(members()), "checkpoint": b"nota"}
    with pytest.raises(LedgerIntegrityError, match=r"checkpoint is not as the bundle's list says"):
        read_bundle(zipped(sorted(changed.items())))


def test_a_bundle_without_a_list_or_with_something_else_there_is_refused():
    with pytest.raises(LedgerIntegrityError, match=r"has no bundle\.json"):
        read_bundle(zipped(FILES.items()))
    with pytest.raises(LedgerIntegrityError, match="holds could_not_be_had, files"):
        read_bundle(zipped([("bundle.json", b"[]")]))


def test_documents_and_manifests_that_belong_into_a_bundle():
    def entry(index, kind, version, **body):
        at = datetime(2026, 1, 1, tzinfo=UTC)
        told = (at, body, Source(), KeyRole.WRITER, {}, {}, lambda key: {})
        return SealedEntry(index, "", "", kind, "retail_pd", version, *told)

    one, two = Digest("1" * 64), Digest("2" * 64)
    named = [f"sha256:{letter * 64}" for letter in "abcd"]
    entries = [
        entry(3, "model.registered", one),
        entry(4, "model.validated", two, evidence_sha256=named[0]),
        entry(5, "model.registered", None, policy_sha256=named[1]),
        entry(6, "model.validated", one, evidence=[["report", named[2]], ["plan", named[3]]]),
        entry(7, "model.scored", one, evidence_sha256=named[3]),
        entry(8, "model.registered", two),
        entry(9, "model.registered", one),
    ]
    files = [f"evidence/{letter * 64}" for letter in "abcd"]
    manifests = [f"model/{digit * 64}.json" for digit in "12"]
    assert files_due(entries, one) == {manifests[0]: 3, files[2]: 6, files[3]: 6}
    every = zip((*manifests, *files), (3, 8, 4, 5, 6, 6), strict=True)
    assert files_due(entries, None) == dict(every)


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
