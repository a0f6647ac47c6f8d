"""Exports of a real ledger, read by a reader that shares no code with the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError
from airflow_mlgov.service.export_tiles import export_tiles
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

_FILE = Path(__file__).resolve().parents[2] / "assets" / "tiles_reader.py"
_SPEC = importlib.util.spec_from_file_location("tiles_reader", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
reader: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reader)


class Log:
    """A ledger that grows, and where it is exported to."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(SqliteStore(folder / "ledger.db"), open_signers(folder / "keys"))
        self.exported = folder / "export"
        self._count = 0

    def grow(self, count: int) -> None:
        for _ in range(count):
            self._count += 1
            body = {"task": "d/r/t", "state": "success"}
            draft = EntryDraft("state.changed_by_hand", "", None, body, (str(self._count),))
            self.ledger.append(draft)
        self.ledger.drain()

    def export(self) -> int:
        return export_tiles(self.ledger.view(), self.exported)

    def check(self) -> list[bytes]:
        (key,) = self.ledger.trust_root().log_keys
        origin, entries = reader.check_log(self.exported, str(key))
        assert origin == self.ledger.origin
        return entries


@pytest.fixture
def log(tmp_path: Path) -> Log:
    log = Log(tmp_path)
    log.grow(3)
    return log


def test_an_outside_reader_finds_every_entry(log: Log) -> None:
    assert log.export() == 2
    assert log.check() == list(log.ledger.view().leaves)


def test_an_export_is_extended_and_its_files_stay(log: Log) -> None:
    log.export()
    first = {p: p.read_bytes() for p in log.exported.rglob("*") if p.is_file()}
    log.grow(300)
    assert log.export() == 5
    assert len(log.check()) == 304
    for path, data in first.items():
        assert path.name == "checkpoint" or path.read_bytes() == data
    assert log.export() == 0


def test_one_changed_bit_is_found_by_the_outside_reader(log: Log) -> None:
    log.export()
    for path in list(log.exported.rglob("*")):
        if path.is_file():
            before = path.read_bytes()
            path.write_bytes(before[:-40] + bytes([before[-40] ^ 1]) + before[-39:])
            with pytest.raises(Exception, match=r".*"):
                log.check()
            path.write_bytes(before)
    log.check()


def test_a_file_that_would_change_is_refused(log: Log) -> None:
    log.export()
    file = log.exported / "tile/0/000.p/4"
    file.write_bytes(b"x" * 128)
    with pytest.raises(LedgerIntegrityError, match=r"000\.p/4 holds other bytes"):
        log.export()
    assert file.read_bytes() == b"x" * 128


def test_a_longer_export_is_not_replaced_by_a_restored_ledger(log: Log, tmp_path: Path) -> None:
    view = log.ledger.view()
    log.grow(1)
    log.export()
    with pytest.raises(LedgerIntegrityError, match="of a longer one than the 4 entries"):
        export_tiles(view, log.exported)
    assert len(log.check()) == 5


def test_an_export_of_another_log_is_not_touched(log: Log, tmp_path: Path) -> None:
    log.export()
    other = Log(tmp_path / "other")
    other.grow(9)
    before = (log.exported / "checkpoint").read_bytes()
    with pytest.raises(LedgerIntegrityError, match="of another log"):
        export_tiles(other.ledger.view(), log.exported)
    assert (log.exported / "checkpoint").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_one_error(log: Log, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"export to .*file/x failed"):
        export_tiles(log.ledger.view(), tmp_path / "file" / "x")
    assert not [p for p in tmp_path.rglob(".*") if p.is_file() and "lock" not in p.name]
