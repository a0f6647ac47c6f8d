"""Reading a ledger: everything under a signed checkpoint, believed only as far as it checks out."""

from __future__ import annotations

import json
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from typing import Any, TypeAlias

from airflow_mlgov.errors import LedgerIntegrityError, UnknownKeyError
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.entry import Entry, decode_leaf, is_identifier
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash, root_of_peaks
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import ROTATION, KeyRole
from airflow_mlgov.records.people import Disclosure, Person
from airflow_mlgov.records.source import Source

ROTATIONS = "*key.rotated"
"""What rotations of keys are listed under, whatever model they name; the id of no model."""

Disclose: TypeAlias = Callable[[str], Mapping[str, Disclosure]]
"""Returns what opens an entry's commitments, by ``people.<field>`` and ``texts.<field>``."""


@dataclass(frozen=True)
class Violation:
    """An entry that stands in the log and counts for nothing.

    Attributes:
        index: Position in the ledger.
        reason: What is wrong with it, for people.
        is_unknown_key: Whether all that is wrong is that nobody told the reader about its key.
    """

    index: int
    reason: str
    is_unknown_key: bool


@dataclass(frozen=True)
class SealedEntry:
    """An entry under a signed checkpoint, its signature and key checked.

    Attributes:
        index: Position in the ledger; the only order there is.
        leaf_hash: RFC 6962 hash of its exact bytes, 64 hexadecimal characters.
        key: Idempotency key.
        kind: A name in `airflow_mlgov.records.kinds.KINDS`.
        model: Inventory id; empty if it is about no model.
        version: Manifest digest; None if it is about no version.
        at: When, by the writer's clock: a claim.
        body: JSON values without floats.
        source: Which task wrote it.
        signed_by: Whose key signed it.
        people: Commitments to people by field.
        texts: Commitments to free texts by field.
        disclose: Reads what opens them.
    """

    index: int
    leaf_hash: str
    key: str
    kind: str
    model: str
    version: Digest | None
    at: datetime
    body: dict[str, Any]
    source: Source
    signed_by: KeyRole
    people: Mapping[str, str]
    texts: Mapping[str, str]
    disclose: Disclose

    def person(self, field: str) -> Person | None:
        """Return a person that the entry names; None if it names none here or they were erased.

        Raises:
            LedgerIntegrityError: What is disclosed is not what was committed to, or is no person; a
                retry does not help.
        """
        value = self._opened(f"people.{field}", self.people.get(field))
        if value is None:
            return None
        is_person = isinstance(value, dict) and value.keys() == {"id", "name"}
        if not is_person or not all(isinstance(part, str) for part in value.values()):
            raise LedgerIntegrityError(f"Entry {self.index}: {field} is not a person.")
        return Person(**value)

    def text(self, field: str) -> str | None:
        """Return a free text of the entry; None if it has none in this field or it was erased.

        Raises:
            LedgerIntegrityError: What is disclosed is not what was committed to; a retry does not
                help.
        """
        value = self._opened(f"texts.{field}", self.texts.get(field))
        if value is not None and not isinstance(value, str):
            raise LedgerIntegrityError(f"Entry {self.index}: {field} is not a text.")
        return value

    def is_closed(self, field: str) -> bool:
        """Return whether the entry names a person or text here that nothing opens any more.

        Where `person` or `text` returns None: True if it was erased, False if it never was there.
        """
        groups = (("people", self.people), ("texts", self.texts))
        committed = {f"{group}.{field}" for group, fields in groups if field in fields}
        return not committed <= self.disclose(self.key).keys()

    def _opened(self, field: str, commitment: str | None) -> Any:
        if commitment is None:
            return None
        disclosure = self.disclose(self.key).get(field)
        return None if disclosure is None else disclosure.check(commitment)


def read_entry(index: int, leaf: bytes, keyring: Keyring, disclose: Disclose) -> SealedEntry:
    """Return the entry in a leaf, its form, signature and its key's right to sign it checked.

    Args:
        index: Position in the ledger; for an entry that waits, the size of the ledger.
        leaf: Its exact bytes.
        keyring: The keys in force, all rotations before the index known.
        disclose: Reads what opens its commitments.

    Raises:
        UnknownKeyError: Its key is in no list of the trust root, and no rotation leads to it.
        LedgerIntegrityError: It counts for nothing, for another reason; a retry does not help.
    """
    entry, envelope = decode_leaf(leaf)
    return _sealed(index, leaf, entry, keyring.signer_of(index, entry, envelope), disclose)


def _sealed(
    index: int, leaf: bytes, entry: Entry, role: KeyRole, disclose: Disclose
) -> SealedEntry:
    return SealedEntry(
        index=index,
        leaf_hash=leaf_hash(leaf).hex(),
        key=entry.key,
        kind=entry.kind,
        model=entry.model,
        version=entry.version,
        at=entry.at,
        body=entry.body,
        source=entry.source,
        signed_by=role,
        people=entry.people,
        texts=entry.texts,
        disclose=disclose,
    )


class LedgerView:
    """Everything under one signed checkpoint.

    Building it re-hashes every leaf and compares the root with the checkpoint's. An entry is
    decoded, and its signature checked, when `select` first returns it.

    What an earlier view found out is taken over if, byte for byte, this one begins with the very
    leaves of that one: the same bytes have the same hash, and mean and prove the same.

    Args:
        leaves: Exact leaf bytes of indices 0..size-1, in order.
        checkpoint: From `open_checkpoint`, so that its signature was checked.
        trust: Whose keys count from the start.
        disclose: Reads what opens an entry's commitments.
        earlier: A view of the same log that this process has, with the same `disclose`.

    Raises:
        LedgerIntegrityError: The leaves are not those that the checkpoint is over; a retry does not
            help.
    """

    def __init__(
        self,
        leaves: Iterable[bytes],
        checkpoint: Checkpoint,
        trust: TrustRoot,
        disclose: Disclose,
        *,
        earlier: LedgerView | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self._leaves = list(leaves)
        self._keyring = Keyring(trust)
        self._disclose = disclose
        self._peaks: tuple[bytes, ...] = ()
        self._read: dict[int, SealedEntry | Violation] = {}
        self._claims: list[tuple[str, str, str]] = []
        known = 0 if earlier is None else self._take_over(earlier)
        self._peaks = _checked_peaks(self._peaks, known, self._leaves[known:], checkpoint)
        for index in range(known, len(self._leaves)):
            self._keyring = self._keyring.after(index, self._leaves[index])

    @property
    def leaves(self) -> Sequence[bytes]:
        """The exact leaf bytes, in order; not a copy."""
        return self._leaves

    def select(
        self, *kinds: str, model: str | None = None, version: Digest | None = None
    ) -> list[SealedEntry]:
        """Return the entries that check out, in the ledger's order.

        Args:
            kinds: Only these kinds; all if none is given.
            model: Only of this inventory id.
            version: Only of this manifest digest.
        """
        wanted = None if version is None else str(version)
        found = []
        for index, (kind, of_model, of_version) in enumerate(self._all_claims()):
            if (kinds and kind not in kinds) or (model is not None and of_model != model):
                continue
            if wanted is not None and of_version != wanted:
                continue
            if isinstance(entry := self._entry(index), SealedEntry):
                found.append(entry)
        return found

    def find(self, *kinds: str, claims: Callable[[Mapping[str, Any]], bool]) -> list[SealedEntry]:
        """Return the entries of some kinds that claim something, in the ledger's order.

        Only those that claim it are decoded strictly, and have their signature checked: one of a
        hundred thousand uses, say.

        Args:
            kinds: At least one.
            claims: Tells whether an entry is wanted, by its unchecked JSON.
        """
        found = []
        for index, (kind, _, _) in enumerate(self._all_claims()):
            if kind in kinds and _claims(self._leaves[index], claims):
                entry = self._entry(index)
                found += [entry] if isinstance(entry, SealedEntry) else []
        return found

    @property
    def violations(self) -> list[Violation]:
        """Every entry that counts for nothing, and why; reading this checks all of them."""
        entries = [self._entry(index) for index in range(len(self._leaves))]
        return [entry for entry in entries if isinstance(entry, Violation)]

    def leaves_from(self, start: int) -> list[bytes]:
        """Return the exact leaf bytes from an index on; those before it are left out."""
        return self._leaves[start:]

    def _all_claims(self) -> list[tuple[str, str, str]]:
        self._claims.extend(map(claims_of, self._leaves[len(self._claims) :]))
        return self._claims

    def _take_over(self, earlier: LedgerView) -> int:
        known = len(earlier._leaves)
        same_trust = earlier._keyring.trust == self._keyring.trust
        if not same_trust or self._leaves[:known] != earlier._leaves:
            return 0
        self._leaves[:known] = earlier._leaves  # equal; kept in memory once
        self._peaks = earlier._peaks
        self._keyring = earlier._keyring
        self._read = earlier._read.copy()
        self._claims = earlier._claims.copy()
        return known

    def _entry(self, index: int) -> SealedEntry | Violation:
        if index not in self._read:
            self._read[index] = self._first_reading(index)
        return self._read[index]

    def _first_reading(self, index: int) -> SealedEntry | Violation:
        try:
            return read_entry(index, self._leaves[index], self._keyring, self._disclose)
        except LedgerIntegrityError as error:
            return Violation(index, error.problem, isinstance(error, UnknownKeyError))


def _checked_peaks(
    peaks: tuple[bytes, ...], size: int, leaves: Iterable[bytes], checkpoint: Checkpoint
) -> tuple[bytes, ...]:
    grown = append_leaves(peaks, size, map(leaf_hash, leaves))
    if grown.size != checkpoint.size:
        raise LedgerIntegrityError(
            f"The ledger holds {grown.size} entries where its signed checkpoint says "
            f"{checkpoint.size}: "
            "entries were removed or added."
        )
    if root_of_peaks(grown.peaks, grown.size).hex() != checkpoint.root_hash:
        raise LedgerIntegrityError(
            f"The {grown.size} entries do not give the root hash that was signed: an entry was "
            "altered, replaced, moved or removed."
        )
    return grown.peaks


def claims_of(leaf: bytes) -> tuple[str, str, str]:
    """Return kind, model and version that a leaf claims, unchecked; empty if it is none."""
    # A quick look, to decode only what is asked for: an entry that reads differently here and in
    # the strict decoder is not canonical, so it counts for nothing either way.
    try:
        value = _said(leaf)
        return intern(str(value["kind"])), intern(str(value["model"])), str(value["version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", "", ""


def _said(leaf: bytes) -> Any:
    return json.loads(a2b_base64(json.loads(leaf)["payload"]))


def _claims(leaf: bytes, claims: Callable[[Mapping[str, Any]], bool]) -> bool:
    with suppress(AttributeError, KeyError, TypeError):
        return claims(_said(leaf))
    return False  # not of the form of an entry: it counts for nothing


def label_of(leaf: bytes) -> str:
    """Return what a leaf is listed under, by what it claims; see `label`."""
    kind, model, _ = claims_of(leaf)
    return label(kind, model)


def label(kind: str, model: str) -> str:
    """Return what an entry is listed under in counts and indices: its model, or `ROTATIONS`.

    What is no identifier stands in no entry that counts, and may be no text to a database.
    """
    if kind == ROTATION:
        return ROTATIONS
    return model if is_identifier(model) else ""
