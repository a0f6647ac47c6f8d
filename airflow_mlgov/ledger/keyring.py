"""Whose keys count at which place of a log: the trust root, and the rotations in the log itself.

A ``key.rotated`` entry, signed by the old key of a role and by the new one, puts the new key in the
place of the old one from the next entry on. So a checkpoint over n entries is signed by the log key
that is in force after entry n-1.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

from airflow_mlgov.errors import LedgerIntegrityError, UnknownKeyError
from airflow_mlgov.ledger.checkpoint import Checkpoint, Vkey, open_checkpoint
from airflow_mlgov.ledger.dsse import Envelope
from airflow_mlgov.ledger.entry import Entry, decode_leaf
from airflow_mlgov.ledger.signatures import keyid
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.kinds import KINDS, ROTATION, KeyRole


@dataclass(frozen=True)
class Rotation:
    """A key that took the place of another one.

    Attributes:
        index: Of the entry that says so.
        role: What both keys are for.
        old: Counts up to that entry.
        new: Counts after it.
    """

    index: int
    role: KeyRole
    old: Vkey
    new: Vkey


@dataclass(frozen=True)
class Keyring:
    """The keys of one log, as far as its leaves were read.

    Attributes:
        trust: What the reader was told from outside; its keys count from the start.
        rotations: Those that check out, in the log's order.
    """

    trust: TrustRoot
    rotations: tuple[Rotation, ...] = ()

    def at(self, index: int) -> TrustRoot:
        """Return the keys that may sign the entry at an index, or a checkpoint over so many."""
        return self._roots[bisect_left(self._indices, index)]

    def after(self, index: int, leaf: bytes) -> Keyring:
        """Return the keyring once one more leaf was read; what is no sound rotation changes none.

        Args:
            index: Position of the leaf.
            leaf: Its exact bytes.
        """
        if leaf.count(b'"keyid"') != 2:  # two keys sign a rotation; cheap, as most leaves are none
            return self
        try:
            entry, envelope = decode_leaf(leaf)
            _, rotation = self._read(index, entry, envelope)
        except LedgerIntegrityError:
            return self
        return self if rotation is None else Keyring(self.trust, (*self.rotations, rotation))

    def signer_of(self, index: int, entry: Entry, envelope: Envelope) -> KeyRole:
        """Return whose key signed an entry, its signature and its right to sign it checked.

        Raises:
            UnknownKeyError: Its key is in no list of the trust root, and no rotation leads to it.
            LedgerIntegrityError: It counts for nothing, for another reason; a retry does not help.
        """
        return self._read(index, entry, envelope)[0]

    def open(self, note: bytes) -> Checkpoint:
        """Return what a checkpoint says, after checking that the log key of its time signed it.

        Raises:
            UnknownKeyError: No log key that this keyring knows of signed it.
            LedgerIntegrityError: Malformed, another log's, a signature that does not fit, or of a
                key that was not in force then; a retry does not help.
        """
        origin = self.trust.origin
        checkpoint = open_checkpoint(note, self.log_keys, origin=origin)
        try:
            return open_checkpoint(note, self.at(checkpoint.size).log_keys, origin=origin)
        except UnknownKeyError as error:
            raise LedgerIntegrityError(
                f"The checkpoint over {checkpoint.size} entries is signed by a log key that did "
                "not count there: it was rotated out, or not in yet."
            ) from error

    @property
    def log_keys(self) -> list[Vkey]:
        """Every log key that counts somewhere in the log."""
        new = [rotation.new for rotation in self.rotations if rotation.role is KeyRole.LOG]
        return [*self.trust.log_keys, *new]

    def retired_at(self, public_key: bytes, index: int) -> int | None:
        """Return the index of the rotation that had ended a key before an index; None if none."""
        ended = [r.index for r in self.rotations if r.old.public_key == public_key]
        return next((at for at in ended if at < index), None)

    @cached_property
    def _indices(self) -> list[int]:
        return [rotation.index for rotation in self.rotations]

    @cached_property
    def _roots(self) -> list[TrustRoot]:
        roots = [self.trust]
        for rotation in self.rotations:
            roots.append(roots[-1].after_rotation(rotation.role, rotation.old, rotation.new))
        return roots

    def _read(
        self, index: int, entry: Entry, envelope: Envelope
    ) -> tuple[KeyRole, Rotation | None]:
        found = self.at(index).signers.get(envelope.keyid)
        if found is None:
            raise self._stranger(index, envelope.keyid)
        role, public_key = found
        envelope.check(public_key)
        if role not in KINDS[entry.kind].signers:
            raise LedgerIntegrityError(f"A {role} key may not sign {entry.kind}.")
        if entry.origin != self.trust.origin:
            raise LedgerIntegrityError(f"It was written for another log, {entry.origin}.")
        if entry.kind != ROTATION:
            return role, None
        return role, self._rotation(index, role, entry, envelope)

    def _rotation(self, index: int, role: KeyRole, entry: Entry, envelope: Envelope) -> Rotation:
        if entry.body["role"] != role.value:
            raise LedgerIntegrityError(
                f"A {role} key may not rotate the key of the {entry.body['role']}."
            )
        new = Vkey.parse(entry.body["vkey"])
        envelope.check_cosigned(new.public_key)
        now = self.at(index)
        (old,) = (key for key in now.keys(role) if keyid(key.public_key) == envelope.keyid)
        if role is KeyRole.LOG and new.name != self.trust.origin:
            raise LedgerIntegrityError(f"A log's key bears its name, not {new.name!r}.")
        if self.retired_at(new.public_key, index) is not None:
            raise LedgerIntegrityError("A key that was rotated out does not come back.")
        now.after_rotation(role, old, new)  # refuses the key of another role
        return Rotation(index, role, old, new)

    def _stranger(self, index: int, named: str) -> LedgerIntegrityError:
        for rotation in self.rotations:
            if rotation.index < index and keyid(rotation.old.public_key) == named:
                return LedgerIntegrityError(
                    f"It is signed by a {rotation.role} key that entry {rotation.index} rotated "
                    "out."
                )
        return UnknownKeyError(f"It is signed by a key that is not in the trust file ({named}).")
