"""A PostgreSQL ledger whose client is killed, or cut off, at every call to the server; threat 17.

The server keeps what it has committed, so what is asked is what the client made of it: everything
that was acknowledged is there once, and the same entry again gets the same receipt.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from airflow_mlgov.errors import LedgerError
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.postgres import PostgresStore

TRACE = "trace=%network"
"""Between these it only waits: whether it is killed before or after, the server sees the same."""


def draft(name: str) -> EntryDraft:
    body = {"task": "d/r/t", "state": "success"}
    return EntryDraft(
        "state.changed_by_hand", "", None, body, (name,), {"by": Person(name, name)}, {"why": name}
    )


class Place:
    """A ledger on the server, which every process opens anew."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.signers = open_signers(folder / "keys")
        self.names: list[str] = []

    def ledger(self) -> Ledger:
        return Ledger(PostgresStore(self.url, timeout_s=20), self.signers)

    def work(self, name: str) -> Callable[[Callable[[str], None]], None]:
        """Append, and bring it under a checkpoint; say how far it came."""

        def work(say: Callable[[str], None]) -> None:
            ledger = self.ledger()
            try:
                receipt = ledger.append(draft(name))
                say(f"ACKNOWLEDGED {receipt.leaf_hash}")
                say(f"SEALED {ledger.seal(receipt).index}")
            except LedgerError as error:
                say(f"REFUSED {type(error).__name__}")

        return work

    def check(self, name: str, said: list[str]) -> None:
        """What must hold afterwards, whatever was done to the process."""
        self.names.append(name)
        ledger = self.ledger()
        report = ledger.verify()
        assert report.problems == ()
        receipt = ledger.append(draft(name))
        sealed = ledger.seal(receipt)
        for line in said:
            word, what = line.split(" ")
            assert word != "ACKNOWLEDGED" or what == receipt.leaf_hash
            assert word != "SEALED" or int(what) == sealed.index
        entries = ledger.view().select("state.changed_by_hand")
        # Each name once, in the order in which they came: none lost, none twice.
        assert [entry.text("why") for entry in entries] == self.names
        assert ledger.verify().is_fine
        ledger._store.close()  # type: ignore[attr-defined]


@pytest.fixture
def place(postgres_url: str, tmp_path: Path) -> Place:
    made = Place(postgres_url, tmp_path)
    made.work("first")(lambda _: None)
    made.check("first", [])
    return made


@pytest.fixture
def calls(place: Place, traced: Any) -> Counter[str]:
    ended = traced(place.work("counted"), "-e", TRACE).wait()
    assert [line.split(" ")[0] for line in ended.said] == ["ACKNOWLEDGED", "SEALED"]
    place.check("counted", ended.said)
    return ended.calls


def ends_of(place: Place, traced: Any, faults: list[tuple[str, int, str]]) -> Counter[str]:
    """Play the faults one after the other; how far each got, by what it said last."""
    ends: Counter[str] = Counter()
    for name, number, fault in faults:
        entry = f"{name} {number} {fault}"
        work = place.work(entry)
        ended = traced(work, "-e", TRACE, "-e", f"inject={name}:{fault}:when={number}").wait()
        place.check(entry, ended.said)
        if ended.was_killed:
            ends[ended.said[-1].split(" ")[0] if ended.said else "nothing"] += 1
    return ends


@pytest.mark.attack(17)
def test_threat_17_killed_at_every_call_to_the_server(
    place: Place, traced: Any, calls: Counter[str], each: Any
) -> None:
    faults = [(name, number, "signal=KILL") for name, number in each(calls)]
    ends = ends_of(place, traced, faults)
    print(dict(calls), dict(ends))
    # An answer may come in one piece or in two: the last calls of a name may not come at all.
    assert len(faults) - 4 <= ends.total() <= len(faults)
    assert ends.total() > 50
    assert ends["nothing"] > 10
    assert ends["ACKNOWLEDGED"] > 10


class Cut:
    """Passes a connection on to the server, and resets both ends at one of the client's messages.

    Args:
        port: The server's.
        number: Which message, counted over all connections; 0 for none.
        is_delivered: Whether the server still gets it, so that only its answer is lost.
    """

    def __init__(self, port: int, number: int, *, is_delivered: bool) -> None:
        self._server = ("127.0.0.1", port)
        self._number, self._is_delivered = number, is_delivered
        self.messages = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                with client, socket.create_connection(self._server) as server:
                    self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            readable, _, _ = select.select([client, server], [], [])
            for source, target in ((client, server), (server, client)):
                if source not in readable:
                    continue
                data = source.recv(65_536)
                if not data:
                    return
                self.messages += source is client
                is_cut = source is client and self.messages == self._number
                if not is_cut or self._is_delivered:
                    target.sendall(data)
                if is_cut:
                    for end in (client, server):  # a reset, and not an orderly end
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return


@pytest.mark.attack(18, 22)
@pytest.mark.parametrize("is_delivered", [False, True])
def test_threat_22_cut_off_at_every_message(place: Place, is_delivered: bool) -> None:
    """Each message is lost on its way once, and once its answer: also that of the commit."""
    port = int(conninfo_to_dict(place.url)["port"])
    ends: Counter[str] = Counter()
    number, was_cut = 0, True
    while was_cut:
        number += 1
        cut = Cut(port, number, is_delivered=is_delivered)
        through = Place(place.url.replace(f":{port}/", f":{cut.port}/"), place.folder)
        said: list[str] = []
        through.work(f"cut {number}")(said.append)
        cut.close()
        place.check(f"cut {number}", said)
        was_cut = cut.messages >= number
        ends[said[-1].split(" ")[0]] += 1
    print(number, dict(ends))
    assert ends.total() > 15
    # All but the last, in which nothing is left to cut, and the goodbyes of connections.
    assert ends["REFUSED"] >= number - 4
