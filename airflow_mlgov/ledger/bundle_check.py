"""Checking a bundle against a trust file that came another way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from airflow_mlgov.errors import LedgerIntegrityError, MlgovError, UnknownKeyError
from airflow_mlgov.ledger.bundle import (
    CHECKPOINT_FILE,
    Bundle,
    disclosures_file,
    entry_file,
    evidence_file,
    files_due,
    manifest_file,
    numbers_in,
    proof_file,
    read_bundle,
    waiting_file,
)
from airflow_mlgov.ledger.bundle_anchors import AnchorsCheck, Demands
from airflow_mlgov.ledger.bundle_report import BundleReport, Finding, Verdict
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.merkle import leaf_hash, verify_inclusion
from airflow_mlgov.ledger.model_index import ModelCount, ModelIndex
from airflow_mlgov.ledger.proof import TlogProof
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.ledger.view import ROTATIONS, SealedEntry, label_of, read_entry
from airflow_mlgov.records.canonical import parse_canonical
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import ROTATION, KeyRole
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.records.people import SALT_BYTES, Disclosure

CLOCK_SKEW = timedelta(minutes=5)
"""How far a signed time may lie ahead of the reader's clock and still be believed."""

_SALT = re.compile(rf"[0-9a-f]{{{2 * SALT_BYTES}}}")


NO_DEMANDS = Demands()


def check_bundle(
    data: bytes,
    trust: TrustRoot,
    *,
    now: datetime,
    max_age: timedelta | None = None,
    demands: Demands = NO_DEMANDS,
) -> BundleReport:
    """Check everything in a bundle that can be checked, and report all that is wrong.

    Args:
        data: The bundle's bytes, from anybody.
        trust: Which log is meant and whose keys count; never from the bundle.
        now: The present moment, aware UTC.
        max_age: How old the newest entry that the log key signed may be; None for any age.
        demands: What is wanted of witnesses and time-stamp authorities.
    """
    try:
        bundle = read_bundle(data)
    except LedgerIntegrityError as error:
        return BundleReport((Finding(Verdict.ALTERED, error.problem),))
    check = _Check(bundle, trust)
    check.run(now, max_age, demands)
    return BundleReport(tuple(check.findings), tuple(check.checked))


class _Check:
    def __init__(self, bundle: Bundle, trust: TrustRoot) -> None:
        self.findings: list[Finding] = []
        self.checked: list[str] = []
        self._files = bundle.files
        self._header = bundle.header
        self._lacking = bundle.lacking
        self._rotations = [
            index
            for index in numbers_in(bundle.files, "entries/")
            if label_of(bundle.files[entry_file(index)]) == ROTATIONS
        ]
        # Believed by their signatures; that they stand in the log is checked with every entry.
        self._keyring = Keyring(trust)
        for index in self._rotations:
            self._keyring = self._keyring.after(index, bundle.files[entry_file(index)])
        self._disclosed: dict[str, Mapping[str, Disclosure]] = {}
        self._entries: list[SealedEntry] = []
        self._claimed = ModelIndex()
        self._opened = self._closed = 0

    def run(self, now: datetime, max_age: timedelta | None, demands: Demands) -> None:
        for name in self._lacking:
            self._add(Verdict.INCOMPLETE, f"{name} is in the bundle's list and not in the bundle.")
        checkpoint = self._checkpoint()
        if checkpoint is None:
            return
        self._check_entries(checkpoint)
        self._check_strays()
        self._check_genesis()
        self._check_counts()
        self._check_documents()
        self._check_waiting()
        self._check_anchors(checkpoint, demands)
        if max_age is not None:
            self._check_age(now, max_age)

    def _add(self, verdict: Verdict, text: str) -> None:
        self.findings.append(Finding(verdict, text))

    @contextmanager
    def _finding(self, where: str) -> Iterator[None]:
        try:
            yield
        except UnknownKeyError as error:
            self._add(Verdict.UNKNOWN_KEY, f"{where}: {error.problem}")
        except MlgovError as error:
            self._add(Verdict.ALTERED, f"{where}: {error.problem}")

    def _checkpoint(self) -> Checkpoint | None:
        note = self._files.get(CHECKPOINT_FILE)
        if note is None:
            self._add(Verdict.INCOMPLETE, "The bundle has no checkpoint, so it proves nothing.")
            return None
        with self._finding("The checkpoint"):
            checkpoint = self._keyring.open(note)
            said = (self._header.origin, self._header.size, self._header.root_hash)
            if said != (checkpoint.origin, checkpoint.size, checkpoint.root_hash):
                raise LedgerIntegrityError("bundle.json says something else than it does.")
            self.checked.append(
                f"the checkpoint of log {checkpoint.origin} over {checkpoint.size} entries, signed "
                f"by the log's key, root hash {checkpoint.root_hash}"
            )
            return checkpoint
        return None

    def _check_entries(self, checkpoint: Checkpoint) -> None:
        keys: set[str] = set()
        for index in numbers_in(self._files, "entries/"):
            with self._finding(f"Entry {index}"):
                leaf = self._files[entry_file(index)]
                if label_of(leaf) == self._header.model:
                    self._claimed.add(index, leaf_hash(leaf))
                proof = self._files.get(proof_file(index))
                if proof is None:
                    text = f"Entry {index} has no proof that the log holds it."
                    self._add(Verdict.INCOMPLETE, text)
                    continue
                _check_included(index, leaf, proof, checkpoint)
                entry = read_entry(index, leaf, self._keyring, self._disclose)
                is_of_log = index == 0 or entry.kind == ROTATION
                if not is_of_log and entry.model != self._header.model:
                    raise LedgerIntegrityError(f"It is about {entry.model!r}, another model.")
                if entry.key in keys:
                    raise LedgerIntegrityError("It stands in the bundle twice.")
                keys.add(entry.key)
                self._open(entry)
                self._entries.append(entry)
        self.checked.append(
            f"{len(self._entries)} entries about {self._header.model}, the log's first and those "
            "that rotate keys: each stands in the log's tree, and is signed by a key that may sign "
            "its kind there"
        )
        self.checked.append(
            f"{self._opened} names and texts are what was committed to; {self._closed} are not "
            "disclosed"
        )

    def _disclose(self, key: str) -> Mapping[str, Disclosure]:
        return self._disclosed.get(key, {})

    def _open(self, entry: SealedEntry) -> None:
        disclosed = _disclosures_of(self._files.get(disclosures_file(entry.index), b"{}"))
        committed = {f"people.{name}" for name in entry.people}
        committed |= {f"texts.{name}" for name in entry.texts}
        if not disclosed.keys() <= committed:
            raise LedgerIntegrityError("A name or text is disclosed that it does not commit to.")
        self._disclosed[entry.key] = disclosed
        for name in entry.people:
            entry.person(name)
        for name in entry.texts:
            entry.text(name)
        self._opened += len(disclosed)
        self._closed += len(committed) - len(disclosed)

    def _check_strays(self) -> None:
        for prefix in ("proofs/", "disclosures/"):
            for index in numbers_in(self._files, prefix):
                if entry_file(index) not in self._files:
                    self._add(
                        Verdict.INCOMPLETE,
                        f"Entry {index} is not in the bundle, which has a file in {prefix} for it.",
                    )

    def _check_genesis(self) -> None:
        if entry_file(0) not in self._files:
            self._add(Verdict.INCOMPLETE, "Entry 0, which gives the log its name, was left out.")
        for entry in self._entries:
            if (entry.index == 0) != (entry.kind == "genesis"):
                self._add(
                    Verdict.ALTERED,
                    f"Entry {entry.index}: the first entry, and no other, is the genesis entry.",
                )

    def _check_counts(self) -> None:
        counts = [entry for entry in self._entries if entry.kind == "model.indexed"]
        if not counts:
            self._add(
                Verdict.INCOMPLETE,
                "No entry of the log's key counts the model's entries, so any may have been left "
                "out.",
            )
            return
        wrong = len(self.findings)
        for entry in counts:
            self._check_count(entry)
        if len(self.findings) > wrong:
            return
        said = ModelCount.of_body(counts[-1].body)
        rotated = f" and {said.rotations} rotations of keys" if said.rotations else ""
        model = self._header.model
        after = sum(e.index >= said.size and e.model == model for e in self._entries)
        self.checked.append(
            f"entry {counts[-1].index} of {to_text(counts[-1].at)}, signed by the log's key, "
            f"counts {said.count} entries about the model{rotated} in the log's first {said.size}; "
            f"{after} in the bundle came after that count"
        )

    def _check_count(self, entry: SealedEntry) -> None:
        said = ModelCount.of_body(entry.body)
        found = self._claimed.count(said.size, self._rotations)
        where = f"Entry {entry.index} counts {said.count} entries in the first {said.size}"
        rotated = f"Entry {entry.index} counts {said.rotations} rotations in the first {said.size}"
        if said.size > entry.index:
            self._add(Verdict.ALTERED, f"{where}, of which some came after it.")
        elif found.count < said.count:
            self._add(
                Verdict.INCOMPLETE,
                f"{where}; the bundle holds {found.count} of them: {said.count - found.count} "
                "were left out.",
            )
        elif found.rotations < said.rotations:
            lacking = said.rotations - found.rotations
            self._add(Verdict.INCOMPLETE, f"{rotated}; {lacking} of them were left out.")
        elif found.rotations != said.rotations:
            self._add(Verdict.ALTERED, f"{rotated}; the bundle holds {found.rotations}.")
        elif found != said:
            self._add(Verdict.ALTERED, f"{where}; the bundle's {found.count} are not those.")

    def _check_documents(self) -> None:
        due = files_due(self._entries, self._header.version)
        named = files_due(self._entries, None)
        held = [name for name in self._files if name.startswith(("evidence/", "model/"))]
        # What an entry names that could not be read, nobody knows; that it could not was told.
        unread = len(numbers_in(self._files, "entries/")) - len(self._entries)
        sound = 0
        for name in held:
            with self._finding(name):
                _check_document(name, self._files[name])
                if name not in named and not unread:
                    raise LedgerIntegrityError("No entry in the bundle names it.")
                sound += name in named
        for name, index in due.items():
            if name not in self._files:
                said = name in self._header.could_not_be_had
                why = "; the bundle says that it could not be had" if said else ""
                self._add(Verdict.INCOMPLETE, f"{name}, which entry {index} names, lacks{why}.")
        version = self._header.version
        if version is not None and not any(entry.version == version for entry in self._entries):
            self._add(Verdict.INCOMPLETE, f"No entry is about version {version}.")
        self.checked.append(
            f"{sound} documents and manifests are those that entries name by digest; what was "
            f"looked for is {'all that entries name' if version is None else f'of {version}'}"
        )

    def _check_waiting(self) -> None:
        for name in (name for name in self._files if name.startswith("waiting/")):
            with self._finding(name):
                size = self._header.size
                entry = read_entry(size, self._files[name], self._keyring, self._disclose)
                if waiting_file(entry.key) != name or entry.model != self._header.model:
                    raise LedgerIntegrityError("It is another entry than its name says.")
                self._add(
                    Verdict.NOT_COVERED,
                    f"A {entry.kind} entry of {to_text(entry.at)} was acknowledged, and no signed "
                    f"checkpoint covers it yet ({entry.key}).",
                )

    def _check_anchors(self, checkpoint: Checkpoint, demands: Demands) -> None:
        indices = numbers_in(self._files, "entries/")
        anchors = AnchorsCheck(self._files, self._keyring, indices, self._add)
        anchors.run(checkpoint, demands)
        self.checked += anchors.checked

    def _check_age(self, now: datetime, max_age: timedelta) -> None:
        times = [entry.at for entry in self._entries if entry.signed_by is KeyRole.LOG]
        if not times:
            self._add(Verdict.STALE, "No entry of the log's key says how old the bundle is.")
            return
        newest = max(times)
        if newest > now + CLOCK_SKEW:
            self._add(
                Verdict.STALE,
                f"The log's key signed last at {to_text(newest)}, which is still to come by this "
                "machine's clock: one of the two clocks is wrong.",
            )
        elif now - newest > max_age:
            self._add(
                Verdict.STALE,
                f"The log's key signed last at {to_text(newest)}, {now - newest} ago; at most "
                f"{max_age} was asked for.",
            )


def _check_included(index: int, leaf: bytes, data: bytes, checkpoint: Checkpoint) -> None:
    proof = TlogProof.parse(data)
    if proof.index != index or proof.checkpoint != checkpoint.note.encode("utf-8"):
        raise LedgerIntegrityError("Its proof is of another entry or checkpoint.")
    root = bytes.fromhex(checkpoint.root_hash)
    verify_inclusion(leaf_hash(leaf), index, checkpoint.size, proof.hashes, root)


def _disclosures_of(data: bytes) -> dict[str, Disclosure]:
    value = parse_canonical(data)
    if not isinstance(value, dict):
        raise LedgerIntegrityError("Its disclosures are not an object.")
    return {name: _disclosure_of(opened) for name, opened in value.items()}


def _disclosure_of(value: Any) -> Disclosure:
    if not isinstance(value, dict) or value.keys() != {"salt", "value"}:
        raise LedgerIntegrityError("A disclosure holds salt and value, nothing else.")
    if not isinstance(value["salt"], str) or not _SALT.fullmatch(value["salt"]):
        raise LedgerIntegrityError(f"A disclosure's salt does not have {SALT_BYTES} bytes.")
    return Disclosure(bytes.fromhex(value["salt"]), value["value"])


def _check_document(name: str, content: bytes) -> None:
    digest = Digest.of(content)
    if name not in (evidence_file(digest), manifest_file(digest)):
        raise LedgerIntegrityError("It is not the document that its name says: it was altered.")
    if name == manifest_file(digest):
        Manifest.from_json(parse_canonical(content))
