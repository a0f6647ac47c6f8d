"""The ledger at a million entries: its tree, proofs, whole verification, and one model's bundle.

The ratio with a goal is that of re-hashing every leaf from the store's bytes up to the signed root,
against reading the same bytes with plain SQL and hashing each with SHA-256, slice by slice in
turns. Two more: the same without the reading on either side, and, harsher than the goal, with the
reading on our side alone. Of the million leaves
only the bundled model's carry true signatures. The whole verification, which checks signatures, is
measured on fewer entries and states how many; its memory with those checks left out, since they
keep nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from airflow_mlgov.ledger.dsse import Envelope, open_envelope, pae  # noqa: E402
from airflow_mlgov.ledger.entry import Entry, encode_leaf, entry_key  # noqa: E402
from airflow_mlgov.ledger.merkle import (  # noqa: E402
    SUBTREE_LEAVES,
    append_leaves,
    leaf_hash,
    leaf_hashes,
    root_of_peaks,
    verify_inclusion,
)
from airflow_mlgov.ledger.subtrees import SubtreeForest  # noqa: E402
from airflow_mlgov.ledger.verify import verify_ledger  # noqa: E402
from airflow_mlgov.records.clock import SystemClock  # noqa: E402
from airflow_mlgov.records.digest import Digest  # noqa: E402
from airflow_mlgov.records.kinds import KeyRole  # noqa: E402
from airflow_mlgov.records.source import Source  # noqa: E402
from airflow_mlgov.service.bundle import make_bundle  # noqa: E402
from airflow_mlgov.service.governance import Governance  # noqa: E402
from airflow_mlgov.service.leaf_index import index_rows  # noqa: E402
from airflow_mlgov.service.ledger import Ledger  # noqa: E402
from airflow_mlgov.service.ports import InboxItem  # noqa: E402
from airflow_mlgov.service.sequencing import integrate  # noqa: E402
from airflow_mlgov.signers.file import open_signers  # noqa: E402
from airflow_mlgov.stores.sqlite import SqliteStore  # noqa: E402
from airflow_mlgov.stores.sqlite.index import add_to_index  # noqa: E402

ENTRIES = 1_000_000
OF_MODEL = 200
OTHER_MODELS = 2_000
SIGNED = 10_000
PROOFS = 1_000
AT_ONCE = 20_000
SINCE = 1_000
MEMORY_AT = (20_000, 60_000)
GOAL, GOAL_BUNDLE_S = 3.0, 2.0
MODEL = "retail_pd"
AT = "2026-01-02T03:04:05.000Z"


class Maker:
    """Makes leaves: signed ones, and fast ones of the same form whose signature fits nothing."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self._signer = open_signers(folder)[KeyRole.WRITER]
        self._entry = Entry(
            origin=ledger.origin,
            kind="model.scored",
            key="",
            at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            model=MODEL,
            version=Digest("a" * 64),
            body={"request_sha256": f"sha256:{'b' * 64}", "target": "production"},
            source=Source("retail_pd", "manual__2026-01-02T03:04:05+00:00", "score", -1, 1),
        )
        form = open_envelope(self.signed(0, MODEL)[1])
        self._payload = form.payload.replace(self._key(0).encode(), b"%b")
        self._payload = self._payload.replace(b'"model":"retail_pd"', b'"model":"%b"')
        before, _, after = self.signed(0, MODEL)[1].partition(base64.b64encode(form.payload))
        self._around = before, after

    def _key(self, number: int) -> str:
        return entry_key(self._entry.origin, "model.scored", str(number))

    def signed(self, number: int, model: str) -> tuple[str, bytes]:
        key = self._key(number)
        entry = replace(self._entry, key=key, model=model)
        return key, encode_leaf(entry, self._signer.public_key, self._signer.sign)

    def unsigned(self, number: int) -> tuple[str, bytes]:
        key = f"sha256:{number:064x}"
        model = b"model_%d" % (number % OTHER_MODELS)
        payload = self._payload % (key.encode(), model)
        before, after = self._around
        return key, before + base64.b64encode(payload) + after

    def most(self, first: int, last: int) -> Iterator[tuple[str, bytes]]:
        """Yield leaves of which every five thousandth is about the model, and signed."""
        for number in range(first, last):
            is_of_model = number % (ENTRIES // OF_MODEL) == 0
            yield self.signed(number, MODEL) if is_of_model else self.unsigned(number)


def fill(ledger: Ledger, store: SqliteStore, leaves: Iterator[tuple[str, bytes]]) -> None:
    """Put leaves into the tree with plain SQL; hashes, head and index come from our code."""
    head, items = store.head(), [InboxItem(key, leaf) for key, leaf in leaves]
    signer = open_signers(store.path.parent / "keys")[KeyRole.LOG]
    sequenced = integrate(head, items, keyring=ledger.keyring(), signer=signer)
    places = range(head.size, sequenced.head.size)
    rows = zip(places, items, sequenced.leaf_hashes, strict=True)
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -100000")
        connection.executemany(
            "INSERT INTO entries (seq, key, leaf, leaf_hash, received_at) VALUES (?, ?, ?, ?, ?)",
            [(seq, item.key, item.leaf, hashed, AT) for seq, item, hashed in rows],
        )
        add_to_index(connection, places, index_rows(head, (item.leaf for item in items), sequenced))
        connection.execute(
            "INSERT INTO checkpoints (size, note, peaks) VALUES (?, ?, ?)",
            (sequenced.head.size, sequenced.head.note, b"".join(sequenced.head.peaks)),
        )
    connection.close()


def cpu(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def bench_tree(store: SqliteStore, root_hash: str) -> dict[str, Any]:
    """Hash every leaf up to the root, and every leaf alone."""
    sha256 = hashlib.sha256
    plain = sqlite3.connect(store.path)
    grown = append_leaves((), 0, ())
    in_memory = append_leaves((), 0, ())
    ours = peer = alone = ours_in_memory = 0.0
    for first in range(0, store.head().size, AT_ONCE):
        last = first + AT_ONCE
        leaves = list(store.leaves(first, last))
        moments = [time.process_time()]
        grown = append_leaves(grown.peaks, grown.size, store.leaf_hashes(first, last))
        moments.append(time.process_time())
        select = "SELECT leaf FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq"
        for (leaf,) in plain.execute(select, (first, last)):
            sha256(leaf).digest()
        moments.append(time.process_time())
        for leaf in leaves:
            sha256(leaf).digest()
        moments.append(time.process_time())
        in_memory = append_leaves(in_memory.peaks, in_memory.size, leaf_hashes(leaves))
        moments.append(time.process_time())
        ours += moments[1] - moments[0]
        peer += moments[2] - moments[1]
        alone += moments[3] - moments[2]
        ours_in_memory += moments[4] - moments[3]
    plain.close()
    roots = {root_of_peaks(tree.peaks, tree.size).hex() for tree in (grown, in_memory)}
    if roots != {root_hash}:
        raise SystemExit("The tree does not give the signed root.")
    return {
        "entries": grown.size,
        "leaf_bytes": len(leaves[0]),
        "ratio": round(ours / peer, 2),
        "ratio_in_memory": round(ours_in_memory / alone, 2),
        "ratio_of_reading_and_tree_vs_sha256_in_memory": round(ours / alone, 2),
        "tree_cpu_s": round(ours, 2),
        "select_and_sha256_cpu_s": round(peer, 2),
        "sha256_cpu_s": round(alone, 2),
    }


def bench_proofs(store: SqliteStore, root_hash: str) -> dict[str, Any]:
    """Make proofs of leaves anywhere, and verify them."""
    size, sha256, root = store.head().size, hashlib.sha256, bytes.fromhex(root_hash)
    # The last subtree of this size may not be full; of the others, each proof hashes 256 leaves.
    indices = random.Random(7).sample(range(size - SUBTREE_LEAVES), PROOFS)
    leaves = [next(store.leaves(index, index + 1)) for index in indices]
    forest = SubtreeForest(size, store.subtrees(size // SUBTREE_LEAVES), store.leaf_hashes)
    proofs: list[list[bytes]] = []
    making = cpu(lambda: proofs.extend(map(forest.inclusion_proof, indices)))

    def verify() -> None:
        for index, leaf, proof in zip(indices, leaves, proofs, strict=True):
            verify_inclusion(leaf_hash(leaf), index, size, proof, root)

    def hash_only(times: int, data: bytes) -> None:
        for _ in range(times):
            sha256(data).digest()

    node, in_proof = b"x" * 65, len(proofs[0])
    leaf = leaves[0]
    needed = cpu(lambda: hash_only(PROOFS * SUBTREE_LEAVES, leaf))
    needed += cpu(lambda: hash_only(PROOFS * (SUBTREE_LEAVES - 1), node))
    verifying = cpu(verify)
    needed_again = cpu(lambda: hash_only(PROOFS, leaf))
    needed_again += cpu(lambda: hash_only(PROOFS * in_proof, node))
    return {
        "proofs_made_per_cpu_s": round(PROOFS / making),
        "ratio_making_vs_its_sha256_calls": round(making / needed, 2),
        "proofs_verified_per_cpu_s": round(PROOFS / verifying),
        "ratio_verifying_vs_its_sha256_calls": round(verifying / needed_again, 2),
        "hashes_in_a_proof": in_proof,
    }


def bench_bundle(ledger: Ledger, store: SqliteStore, maker: Maker) -> dict[str, Any]:
    """Make the first bundle of a model, which reads everything, and one on a later day."""
    gov = Governance(ledger, NoEvidence(), {}, {}, SystemClock())
    begun = time.perf_counter()
    make_bundle(gov, MODEL)
    first = time.perf_counter() - begun
    fill(ledger, store, (maker.unsigned(n) for n in range(ENTRIES, ENTRIES + SINCE)))
    fill(ledger, store, iter([maker.signed(ENTRIES, MODEL)]))
    begun, begun_cpu = time.perf_counter(), time.process_time()
    made = make_bundle(gov, MODEL)
    later, later_cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    return {
        "goal_bundle_s": f"< {GOAL_BUNDLE_S:g}",
        "bundle_s": round(later, 2),
        "bundle_cpu_s": round(later_cpu, 2),
        "bundle_met": later < GOAL_BUNDLE_S,
        "bundle_entries": made.entries,
        "bundle_entries_since_the_last_count": SINCE,
        "first_bundle_s": round(first, 1),
    }


class NoEvidence:
    """Holds nothing: the entries name no document."""

    def put(self, document: bytes) -> Digest:
        return Digest.of(document)

    def get(self, digest: Digest) -> bytes:
        raise AssertionError(digest)


def bench_verification(folder: Path) -> dict[str, Any]:
    """Check everything in a smaller ledger whose entries all carry true signatures."""
    store = SqliteStore(folder / "signed.db")
    ledger = Ledger(store, open_signers(folder / "keys"))
    say(f"log {ledger.origin}")
    ledger.drain()
    maker = Maker(ledger, folder / "keys")
    fill(ledger, store, (maker.signed(n, f"model_{n % 100}") for n in range(1, SIGNED)))
    leaves = list(store.leaves(1, SIGNED))
    signer = open_signers(folder / "keys")[KeyRole.WRITER]
    key = Ed25519PublicKey.from_public_bytes(signer.public_key)
    envelopes = [open_envelope(leaf) for leaf in leaves]
    signed = [(envelope.signature, pae(envelope.payload)) for envelope in envelopes]

    def bare() -> None:
        for leaf, (signature, message) in zip(leaves, signed, strict=True):
            hashlib.sha256(leaf).digest()
            key.verify(signature, message)

    reports: list[Any] = []
    ours = cpu(lambda: reports.append(ledger.verify()))
    if not reports[0].is_fine or reports[0].size != SIGNED:
        raise SystemExit(f"It does not verify: {reports[0].problems}")
    needed = cpu(bare)
    alone = cpu(lambda: [hashlib.sha256(leaf).digest() for leaf in leaves])
    return {
        "verified_entries": SIGNED,
        "verify_us_per_entry": round(ours / SIGNED * 1e6),
        "ratio_verify_vs_ed25519_and_sha256": round(ours / needed, 2),
        "ratio_verify_vs_sha256": round(ours / alone, 1),
    }


def bench_memory(folder: Path) -> dict[str, Any]:
    """Let other processes verify a part, a larger part, and the whole tree; compare their peaks."""

    def peak(mode: str, entries: int) -> int:
        command = [sys.executable, __file__, mode, str(folder), str(entries)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return int(done.stdout.splitlines()[-1])

    few, many = MEMORY_AT
    trees = peak("tree", ENTRIES) - peak("tree", few)
    growth = (peak("verify", many) - peak("verify", few)) / (many - few)
    return {
        "tree_peak_growth_bytes_per_entry": round(trees / (ENTRIES - few), 1),
        "verify_peak_growth_bytes_per_entry": round(growth, 1),
    }


def measured(mode: str, folder: Path, entries: int) -> int:
    """Return the peak of this process's memory, in bytes, after it has read so many entries."""
    store = SqliteStore(folder / "million.db", read_only=True)
    if mode == "tree":
        append_leaves((), 0, store.leaf_hashes(0, entries))
    else:
        Envelope.check = lambda self, public_key: None  # type: ignore[method-assign]
        trust = Ledger(store, open_signers(folder / "keys")).trust_root()
        note = store.head().note
        report = verify_ledger(store.leaves(0, entries), note, trust, disclose=lambda _: {})
        if len(report.problems) != 1:  # that there are more entries
            raise SystemExit(f"It does not verify: {report.problems[:3]}")
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    return int(peak) * 1024


def main() -> None:
    """Measure and print, or measure one peak of memory."""
    logging.disable(logging.WARNING)
    if len(sys.argv) == 4:
        print(measured(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
        return
    with tempfile.TemporaryDirectory(dir=ROOT) as name:  # beside the code: /tmp may be memory
        folder = Path(name)
        store = SqliteStore(folder / "million.db")
        ledger = Ledger(store, open_signers(folder / "keys"))
        say(f"log {ledger.origin}")
        ledger.drain()
        maker = Maker(ledger, folder / "keys")
        for first in range(0, ENTRIES, AT_ONCE):
            # Number 0 is the genesis entry, which the ledger itself writes.
            fill(ledger, store, maker.most(max(1, first), first + AT_ONCE))
        say("built")
        root_hash = ledger.checkpoint().root_hash
        found = bench_tree(store, root_hash)
        say("tree")
        found |= bench_proofs(store, root_hash)
        say("proofs")
        found |= bench_memory(folder)
        say("memory")
        found |= bench_bundle(ledger, store, maker)
        say("bundle")
        found |= bench_verification(folder)
    met = found["ratio"] <= GOAL
    print(json.dumps({"name": "ledger_million", "goal": f"<= {GOAL:g}", "met": met, **found}))


def say(what: str) -> None:
    print(f"{time.process_time():.0f} s of processor time: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
