"""The ledger as the service uses it: append, wait for a signed checkpoint, read."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerIntegrityError,
    LedgerUnavailableError,
    UnknownKeyError,
)
from airflow_mlgov.ledger.checkpoint import Checkpoint, Vkey
from airflow_mlgov.ledger.entry import Entry, encode_leaf
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.merkle import leaf_hash
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.ledger.verify import Report, verify_ledger
from airflow_mlgov.ledger.view import LedgerView, SealedEntry, read_entry
from airflow_mlgov.records.clock import Clock, SystemClock
from airflow_mlgov.records.kinds import KINDS, KeyRole
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.drafts import (
    EntryDraft,
    Receipt,
    SealedReceipt,
    conflict,
    differences,
    disclosures_of,
    entry_of,
    refusal_of,
)
from airflow_mlgov.service.log_root import LogRoot
from airflow_mlgov.service.model_view import ModelView, read_model
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.service.ports import (
    Anchored,
    InboxItem,
    LedgerStore,
    SeenCheckpoints,
    Sequenced,
    Signer,
    TreeHead,
)
from airflow_mlgov.service.remembered import Memory, Recalled
from airflow_mlgov.service.sequencing import checked_head, integrate, nothing_signed
from airflow_mlgov.service.store_check import store_problems

__all__ = ["EntryDraft", "Ledger", "LedgerView", "Receipt", "SealedEntry", "SealedReceipt"]

_POLL_S = 0.05


class Ledger:
    """One log, seen from a process that holds some of its keys.

    With the log key at hand the process sequences for itself (embedded); without it, a sequencer
    elsewhere does, and `seal` waits for it.

    Args:
        store: Where it is kept.
        signers: Private keys that this process holds, by role.
        clock: Where times come from.
        trust: Public keys of roles whose private key is not here; its origin must be the ledger's.
        seen: Remembers the newest checkpoint that this machine saw; without it, a ledger that was
            set back is not noticed.
        retired: Keys that this process held once, by role.
    """

    def __init__(
        self,
        store: LedgerStore,
        signers: Mapping[KeyRole, Signer],
        clock: Clock | None = None,
        *,
        trust: TrustRoot | None = None,
        seen: SeenCheckpoints | None = None,
        retired: Mapping[KeyRole, Iterable[Vkey]] | None = None,
    ) -> None:
        self._store = store
        self._signers = dict(signers)
        self._clock = clock or SystemClock()
        self._root = LogRoot(store, self._signers, self._clock, trust, retired or {})
        self._memory = Memory(seen)
        self._viewed: LedgerView | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether this process holds the log key, and so sequences for itself."""
        return KeyRole.LOG in self._signers

    @property
    def origin(self) -> str:
        """The log's name; see `LogRoot.origin`."""
        return self._root.origin

    def trust_root(self) -> TrustRoot:
        """Return the log's name and every public key known here; see `LogRoot.trust_root`."""
        return self._root.trust_root()

    def keyring(self, trust: TrustRoot | None = None) -> Keyring:
        """Return the keys that count, after all rotations under the newest checkpoint.

        Args:
            trust: Whose keys count from the start; by default what `trust_root` says.

        Raises:
            LedgerUnavailableError: The store cannot be reached; a retry may help.
        """
        return self._root.keyring(self._store.head().size, trust)

    def append(
        self,
        draft: EntryDraft,
        *,
        role: KeyRole = KeyRole.WRITER,
        cosigner: Signer | None = None,
        lineage: Callable[[Entry], Sequence[OutboxItem]] | None = None,
    ) -> Receipt:
        """Keep an entry durably; the same draft again returns what is on record.

        Two drafts are the same if they differ in nothing but the time and the try number; people
        and texts are compared by what is disclosed of them.

        Args:
            draft: What to put on record.
            role: Whose key signs it.
            cosigner: The new key of the role, for an entry that rotates it.
            lineage: Tells what goes to the outbox with the entry: both are kept, or neither is.
                An entry that is on record already takes nothing with it.

        Returns:
            A receipt: the entry is safe, and proven only once `seal` returns.

        Raises:
            LedgerConflictError: Another content is on record under this identity; a retry does not
                help.
            LedgerIntegrityError: The draft may not stand in the ledger, or what is on record does
                not verify.
            ConfigurationError: This process does not hold the key, or knows that it was rotated
                out; a retry does not help.
            LedgerUnavailableError: The store cannot be reached; a retry may help.
        """
        signer = self._signer(role, draft.kind)
        # Not read again, which would be a second trip: `seal`, `drain` and `view` read it again.
        origin = self._root.known_origin
        disclosures = disclosures_of(draft)
        entry = entry_of(draft, origin, disclosures, self._clock.now())
        second = None if cosigner is None else (cosigner.public_key, cosigner.sign)
        leaf = encode_leaf(entry, signer.public_key, signer.sign, cosigner=second)
        events = () if lineage is None else lineage(entry)
        on_record = self._store.insert(
            InboxItem(entry.key, leaf), disclosures, entry.at, lineage=events
        )
        if on_record is None:
            return Receipt(entry.key, leaf_hash(leaf).hex())
        self._compare(entry, role, disclosures, on_record)
        return Receipt(entry.key, leaf_hash(on_record).hex())

    def drain(self) -> None:
        """Bring what is acknowledged under a signed checkpoint, if the log key is here.

        Raises:
            ConfigurationError: The log key that is here was rotated out; a retry does not help.
            LedgerIntegrityError: What is kept does not fit what was last signed, or what this
                machine remembers; nothing is signed over it.
            LedgerUnavailableError: The store cannot be reached; a retry may help.
        """
        if not self.is_embedded or not self._store.waiting():
            return
        trust = self.trust_root()
        last = self._compared(trust) if self._memory.is_kept else None
        while not self._sequence(last):
            pass  # another process was faster: what it signed is looked through first
        if self._memory.is_kept:
            self._compared(trust)  # what was signed is what is stored, and is remembered

    def seal(self, receipt: Receipt, *, timeout_s: float = 30.0) -> SealedReceipt:
        """Wait until a signed checkpoint covers an entry.

        Args:
            receipt: From `append`.
            timeout_s: How long to wait for a sequencer elsewhere, in seconds, at least 0.

        Raises:
            LedgerUnavailableError: None did in time (is the sequencer running?); a retry may help.
            LedgerIntegrityError: The entry is not on record any more or counts for nothing (its
                key was rotated out before it), or the checkpoint does not verify.
        """
        deadline = time.monotonic() + timeout_s
        self.drain()
        while True:
            leaf, index = self._kept(receipt)
            if index is not None:
                checkpoint = self.checkpoint()
                if index < checkpoint.size:
                    keyring = self._root.keyring(checkpoint.size)
                    if keyring.rotations:
                        read_entry(index, leaf, keyring, self._store.disclosures)
                    return SealedReceipt(receipt.key, index, checkpoint.size, checkpoint.root_hash)
            if time.monotonic() >= deadline:
                raise LedgerUnavailableError(
                    f"No signed checkpoint covered the entry within {timeout_s:g} seconds.",
                    remedy="It is kept and nothing is lost; check that the sequencer runs.",
                )
            time.sleep(_POLL_S)

    def head(self) -> TreeHead:
        """Return the newest head as the store has it, unchecked: cheap to ask whether it moved."""
        return self._store.head()

    def checkpoint(self) -> Checkpoint:
        """Return the newest signed checkpoint, its signature checked.

        Raises:
            LedgerUnavailableError: Nothing was signed yet; a retry may help.
            LedgerIntegrityError: It does not verify, or contradicts what this machine remembers; a
                retry does not help.
        """
        checkpoint = self._compared(self.trust_root())
        if checkpoint is None:
            raise nothing_signed()
        return checkpoint

    def view(self) -> LedgerView:
        """Return everything under the newest signed checkpoint, re-hashed from its bytes.

        A process that holds the log key first brings what is acknowledged under a checkpoint, so
        that it sees everything acknowledged so far.

        Raises:
            LedgerIntegrityError: It does not verify, or contradicts what this machine remembers; a
                retry does not help.
            LedgerUnavailableError: The store cannot be reached, or nothing was signed yet; a retry
                may help.
        """
        trust = self.trust_root()
        self.drain()
        recalled = self._memory.recall(trust, self.keyring)
        leaves = list(self._store.leaves(0, self._store.head().size))
        self._root.keyring(len(leaves), leaves=leaves)
        head, checkpoint = self._newest(recalled)
        if checkpoint is None:
            raise nothing_signed()
        leaves += self._store.leaves(len(leaves), checkpoint.size)
        view = LedgerView(leaves, checkpoint, trust, self._store.disclosures, earlier=self._viewed)
        self._memory.accept(recalled, checkpoint, head, view.leaves_from)
        self._viewed = view
        return view

    def model_view(self, model: str) -> ModelView:
        """Return all entries about one model; what came before their newest count is not read.

        Raises:
            LedgerIntegrityError: What the store finds does not fit what was signed.
            LedgerUnavailableError: As for `view`.
        """
        self.drain()
        return read_model(self._store, self.checkpoint(), self.trust_root(), model)

    def inbox(self) -> list[InboxItem]:
        """Return the acknowledged entries that no checkpoint covers yet, oldest first."""
        return self._store.inbox()

    def anchored(self, *, newest: bool = True) -> list[Anchored]:
        """Return what anchors gave, for the newest checkpoint that each took or for all of them."""
        return self._store.anchored(newest=newest)

    def verify(
        self, trust: TrustRoot | None = None, *, earlier: Sequence[Checkpoint] = ()
    ) -> Report:
        """Check everything that can be checked, and report all that is wrong; nothing is written.

        Args:
            trust: Whose keys count, from a file kept elsewhere; by default what `trust_root` says.
            earlier: Checkpoints kept elsewhere, whose signatures were checked.

        Raises:
            LedgerUnavailableError: The store cannot be reached, or nothing was signed yet.
            LedgerIntegrityError: The store is too damaged for a report; a retry does not help.
        """
        if not self._store.head().note and not any(self._store.leaves(0, 1)):
            raise LedgerUnavailableError(
                "The ledger is empty: nothing was put under a checkpoint yet."
            )
        trust = trust or self.trust_root()
        recalled = self._memory.recall(trust, lambda: self.keyring(trust))
        head = self._store.head()
        report = verify_ledger(
            self._store.leaves(0, head.size),
            head.note,
            trust,
            disclose=self._store.disclosures,
            earlier=earlier,
            now=self._clock.now(),
        )
        keyring = self._root.keyring(head.size, trust)
        report = report.with_erasures(self._store.leaves(head.size, sys.maxsize), keyring)
        report = replace(report, waiting=self._store.waiting(), remembered=recalled.size)
        return report.with_problems(self._problems_of_store(head, keyring, recalled))

    def _signer(self, role: KeyRole, kind: str) -> Signer:
        if kind not in KINDS:
            raise LedgerIntegrityError(f"{kind!r} is no kind of ledger entry that this code knows.")
        if role not in KINDS[kind].signers:
            raise LedgerIntegrityError(f"A {role} key may not sign {kind}.")
        if role not in self._signers:
            raise ConfigurationError(
                f"This process does not hold the {role} key, so it cannot write {kind}."
            )
        self._root.check_in_force(self._signers[role])
        return self._signers[role]

    def _sequence(self, last: Checkpoint | None) -> bool:
        """Try a round; return False if the head is not the one whose entries were looked through.

        Those that another process brought under a checkpoint since may rotate the log key.
        """
        size = self._store.head().size
        keyring, signer = self._root.keyring(size), self._signers[KeyRole.LOG]

        def integrated(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
            if head.size != size:
                raise _HeadMovedError
            return integrate(head, items, keyring=keyring, signer=signer, last=last)

        try:
            self._store.sequence(integrated)
        except _HeadMovedError:
            return False
        return True

    def _kept(self, receipt: Receipt) -> tuple[bytes, int | None]:
        kept = self._store.get(receipt.key)
        if kept is None or leaf_hash(kept[0]).hex() != receipt.leaf_hash:
            raise LedgerIntegrityError(
                f"The entry with leaf hash {receipt.leaf_hash}, which the ledger acknowledged, is "
                "not on record."
            )
        return kept

    def _newest(self, recalled: Recalled) -> tuple[TreeHead, Checkpoint | None]:
        head = self._store.head()
        if head.note:
            return head, checked_head(head, self._root.keyring(head.size))
        recalled.check_nothing_signed()
        return head, None

    def _compared(self, trust: TrustRoot) -> Checkpoint | None:
        recalled = self._memory.recall(trust, self.keyring)
        head, checkpoint = self._newest(recalled)
        if checkpoint is not None:
            self._memory.accept(recalled, checkpoint, head, self._leaves_up_to(head.size))
        return checkpoint

    def _leaves_up_to(self, size: int) -> Callable[[int], Iterable[bytes]]:
        return lambda start: self._store.leaves(start, size)

    def _problems_of_store(self, head: TreeHead, keyring: Keyring, recalled: Recalled) -> list[str]:
        problems = []
        try:
            checkpoint = checked_head(head, keyring)
            self._memory.accept(recalled, checkpoint, head, self._leaves_up_to(head.size))
        except UnknownKeyError:
            pass  # the report says so already
        except LedgerIntegrityError as error:
            problems.append(error.problem)
        return problems + store_problems(self._store, head.size)

    def _compare(
        self, offered: Entry, role: KeyRole, disclosures: Mapping[str, Disclosure], leaf: bytes
    ) -> None:
        head, found = self._store.head(), self._store.get(offered.key)
        index = head.size if found is None or found[1] is None else found[1]
        keyring = self._root.keyring(max(index, head.size))
        kept = read_entry(index, leaf, keyring, self._store.disclosures)
        if (kept.key, kept.kind) != (offered.key, offered.kind):
            raise LedgerIntegrityError(
                "The store keeps an entry under another's key: it was altered."
            )
        differing = differences(kept, offered, role, disclosures)
        if not differing:
            return
        self.append(refusal_of(offered, role, differing), role=role)
        raise conflict(kept, differing)


class _HeadMovedError(Exception):
    """Another process has brought entries under a checkpoint in the meantime."""
