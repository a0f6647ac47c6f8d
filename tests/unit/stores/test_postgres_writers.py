"""Sixteen processes with keys of their own on one PostgreSQL ledger, whatever the roles' defaults.

Writers and sequencers have the two roles of a production database; threats 15 and 16.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.postgres import PostgresStore, schema

CONTEXT = multiprocessing.get_context("fork")
WRITERS, EACH = 16, 9


def draft(*identity: str) -> EntryDraft:
    body = {"task": "d/r/t", "state": "success"}
    who = {"by": Person(identity[-1], identity[-1])}
    return EntryDraft("state.changed_by_hand", "", None, body, identity, who)


@pytest.fixture(params=["read committed", "repeatable read"])
def roles(
    request: pytest.FixtureRequest, postgres: Any, postgres_database: str, postgres_url: str
) -> Iterator[tuple[str, str]]:
    """URLs of a writer's and a sequencer's role, whose sessions begin with an isolation level."""
    made = [f"{name}_{postgres_database}" for name in ("w", "s")]
    for role in made:
        postgres.execute(
            postgres_database,
            f"CREATE ROLE {role} LOGIN",
            f"ALTER ROLE {role} SET default_transaction_isolation = '{request.param}'",
        )
    schema.grant(postgres_url, writer=made[0], sequencer=made[1])
    urls = [postgres.url(postgres_database, role) for role in made]
    for url in urls:
        with psycopg.connect(url) as connection:
            assert connection.execute("SHOW transaction_isolation").fetchone() == (request.param,)
    yield urls[0], urls[1]
    names = ", ".join(made)
    postgres.execute(postgres_database, f"DROP OWNED BY {names}", f"DROP ROLE {names}")


def start(work: Any, *given: Any) -> Any:
    """Run in a process of its own, which ends without what pytest would tear down."""

    def run() -> None:
        code = 1
        try:
            work(*given)
            code = 0
        finally:
            os._exit(code)

    process = CONTEXT.Process(target=run)
    process.start()
    return process


def _write(url: str, keys: Path, trust: TrustRoot, writer: int, acknowledged: Path) -> None:
    signers = open_signers(keys, create=False)
    ledger = Ledger(PostgresStore(url), {KeyRole.WRITER: signers[KeyRole.WRITER]}, trust=trust)
    with acknowledged.open("a") as log:
        for number in range(EACH):
            # Every third entry is one that all writers want; every fourth waits for a checkpoint.
            identity = ("shared", str(number)) if number % 3 == 0 else (str(writer), str(number))
            receipt = ledger.append(draft(*identity))
            if number % 4 == 0:
                assert ledger.seal(receipt, timeout_s=120).tree_size > 0
            log.write(f"{receipt.key} {receipt.leaf_hash}\n")


def _sequence(url: str, keys: Path, stop: Any) -> None:
    signers = open_signers(keys, create=False)
    ledger = Ledger(PostgresStore(url), {KeyRole.LOG: signers[KeyRole.LOG]})
    while not stop.is_set():
        ledger.drain()
        stop.wait(0.02)


@pytest.mark.attack(15, 16)
def test_threats_15_and_16_sixteen_writers_and_two_sequencers_race(
    roles: tuple[str, str], tmp_path: Path
) -> None:
    writer_url, sequencer_url = roles
    keys = tmp_path / "keys"
    ledger = Ledger(PostgresStore(sequencer_url), open_signers(keys))
    trust = ledger.trust_root()
    ledger.drain()
    ledger._store.close()  # type: ignore[attr-defined]
    stop = CONTEXT.Event()
    sequencers = [start(_sequence, sequencer_url, keys, stop) for _ in range(2)]
    writers = [
        start(_write, writer_url, keys, trust, number, tmp_path / f"acknowledged.{number}")
        for number in range(WRITERS)
    ]
    for process in writers:
        process.join(180)
    stop.set()
    for process in sequencers:
        process.join(60)
    assert [process.exitcode for process in (*writers, *sequencers)] == [0] * (WRITERS + 2)
    lines = [
        line.split(" ")
        for file in sorted(tmp_path.glob("acknowledged.*"))
        for line in file.read_text().splitlines()
    ]
    assert len(lines) == WRITERS * EACH
    acknowledged = {(key, leaf) for key, leaf in lines}
    shared = EACH // 3
    assert len(acknowledged) == WRITERS * (EACH - shared) + shared  # one receipt for each key
    ledger.drain()
    entries = ledger.view().select()
    assert [entry.index for entry in entries] == list(range(len(entries)))  # no gap
    found = [(entry.key, entry.leaf_hash) for entry in entries[1:]]
    assert len(found) == len(set(found))  # no duplicate
    assert set(found) == acknowledged  # none lost
    assert ledger.verify(trust).is_fine
    assert ledger._store.waiting() == 0  # type: ignore[attr-defined]
