"""The real ``airflow mlgov sequencer``, with writers that hold no log key, killed in the middle."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.ledger.checkpoint import Vkey
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ledger import EntryDraft, Ledger, Receipt
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.seen import SeenFolder
from airflow_mlgov.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "airflow", "mlgov", "sequencer"]
YEAR = "31536000"  # so that no hour ends while the test runs
WRITERS, EACH = 4, 40
CONTEXT = multiprocessing.get_context("fork")


class Service:
    """One run of the command, and what it says."""

    def __init__(self, folder: Path) -> None:
        env = {
            **os.environ,
            "AIRFLOW_HOME": str(folder / "airflow"),
            "PYTHONPATH": str(ROOT),
            "AIRFLOW__MLGOV__LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}",
            "AIRFLOW__MLGOV__KEYS_DIR": str(folder / "keys"),
            "AIRFLOW__MLGOV__SEEN_DIR": str(folder / "seen"),
        }
        self.process = subprocess.Popen(
            [*COMMAND, "--listen", "127.0.0.1:0", "--heartbeat", YEAR],
            cwd=ROOT,
            env=env,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    @property
    def address(self) -> str:
        found = [re.search(r"/metrics on (127\.0\.0\.1:[0-9]+)\.", line) for line in self.said]
        return next((match[1] for match in found if match), "")

    def ask(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def wait_until_healthy(self) -> dict[str, Any]:
        deadline = time.monotonic() + 120
        while True:
            assert self.process.poll() is None, "".join(self.said)
            if self.address:
                status, text = self.ask("/health")
                if status == 200:
                    return json.loads(text)
            assert time.monotonic() < deadline, "".join(self.said)
            time.sleep(0.05)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join(10)
        return code


@pytest.fixture
def service(tmp_path: Path) -> Iterator[list[Service]]:
    started = [Service(tmp_path)]
    yield started
    for each in started:
        each.process.kill()
        each.process.wait(30)


def writer_in(folder: Path, trust: TrustRoot) -> Ledger:
    signers = open_signers(folder / "keys", create=False)
    return Ledger(
        SqliteStore(folder / "ledger.db"),
        {KeyRole.WRITER: signers[KeyRole.WRITER]},
        trust=trust,
        seen=SeenFolder(folder / "seen of writers"),
    )


def draft(*identity: str) -> EntryDraft:
    body = {"request_sha256": "sha256:" + "0" * 64, "target": "production"}
    return EntryDraft("model.scored", "retail_pd", Digest("a" * 64), body, identity)


def _write(folder: Path, trust: TrustRoot, writer: int) -> None:
    ledger = writer_in(folder, trust)
    with (folder / f"acknowledged.{writer}").open("ab", buffering=0) as log:
        for number in range(EACH):
            receipt = ledger.append(draft(str(writer), str(number)))
            log.write(f"{receipt.key} {receipt.leaf_hash}\n".encode())
            if number % 8 == 0:
                assert ledger.seal(receipt, timeout_s=120).index > 0


def acknowledged(folder: Path) -> list[Receipt]:
    lines = [
        line
        for file in sorted(folder.glob("acknowledged.*"))
        for line in file.read_text().split("\n")[:-1]
    ]
    return [Receipt(*line.split(" ")) for line in lines]


def test_the_service_killed_in_the_middle_loses_nothing_acknowledged(
    tmp_path: Path, service: list[Service]
) -> None:
    first = service[0]
    health = first.wait_until_healthy()
    assert health["entries"] == 2  # it has begun the ledger, and beats
    signers = open_signers(tmp_path / "keys", create=False)
    log_only = {KeyRole.LOG: signers[KeyRole.LOG]}
    trust = Ledger(SqliteStore(tmp_path / "ledger.db"), log_only).trust_root()
    writer = signers[KeyRole.WRITER]
    trust = trust.with_keys(KeyRole.WRITER, [Vkey(writer.name, writer.public_key)])
    workers = [
        CONTEXT.Process(target=_write, args=(tmp_path, trust, number)) for number in range(WRITERS)
    ]
    for worker in workers:
        worker.start()
    while len(acknowledged(tmp_path)) < WRITERS * EACH // 4:
        assert all(worker.exitcode in (None, 0) for worker in workers)
        time.sleep(0.005)

    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    killed_at = len(acknowledged(tmp_path))
    assert killed_at < WRITERS * EACH
    second = Service(tmp_path)
    service.append(second)
    second.wait_until_healthy()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0

    reader = writer_in(tmp_path, trust)
    receipts = acknowledged(tmp_path)
    assert len(set(receipts)) == WRITERS * EACH
    sealed = [reader.seal(receipt, timeout_s=60) for receipt in receipts]
    assert len({receipt.index for receipt in sealed}) == len(receipts)
    scored = {(e.key, e.leaf_hash) for e in reader.view().select("model.scored")}
    assert scored == {(receipt.key, receipt.leaf_hash) for receipt in receipts}
    report = reader.verify(trust)
    assert (report.is_fine, report.size, report.remarks) == (True, len(receipts) + 2, ())
    assert report.kinds["heartbeat"] == 1  # the second beats in the first one's year

    time.sleep(0.3)  # a round or two
    status, text = second.ask("/metrics")
    assert status == 200
    assert f"\nmlgov_ledger_entries {report.size}\n" in text
    assert "\nmlgov_ledger_waiting_entries 0\n" in text
    assert "\nmlgov_sequencer_failures_total 0\n" in text
    status, text = second.ask("/health")
    assert (status, json.loads(text)["entries"]) == (200, report.size)
    assert str(tmp_path) not in text
    assert second.end(signal.SIGTERM) == 0
    assert second.said[-1] == "Stopped after the round in hand.\n"
