"""The last checkpoint that this machine saw of a log: whatever comes later must extend it.

A ledger whose tail was cut off together with its checkpoints, that was restored from an old backup,
or that was replaced by another copy which was extended and signed as well, is sound in itself. Who
remembers what it said before finds that it contradicts itself.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airflow_mlgov.errors import LedgerIntegrityError, UnknownKeyError
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.seen import SeenCheckpoint
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.service.ports import SeenCheckpoints, TreeHead

log = logging.getLogger(__name__)

_REMEDY = (
    "Stop and find out why: compare with checkpoints kept elsewhere. If a backup was restored on "
    "purpose, docs/explanation/ledger.md says how to go on."
)


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was remembered at one moment.

    Attributes:
        data: The exact bytes; None if nothing was.
        seen: What they stand for; None if nothing was remembered or it cannot be read.
        is_strange: Whether it cannot be read because no known log key signed it.
    """

    data: bytes | None = None
    seen: SeenCheckpoint | None = None
    is_strange: bool = False

    @property
    def size(self) -> int:
        """Entries under the remembered checkpoint; 0 if none is remembered."""
        return 0 if self.seen is None else self.seen.checkpoint.size

    def check_nothing_signed(self) -> None:
        """Refuse a ledger without any checkpoint, if one is remembered.

        Raises:
            LedgerIntegrityError: One is; a retry does not help.
        """
        if self.seen is not None or self.is_strange:
            raise LedgerIntegrityError(
                "The ledger has no signed checkpoint, and this machine has seen one"
                f"{f' over {self.size} entries' if self.size else ''}: the store was altered.",
                remedy=_REMEDY,
            )


class Memory:
    """Compares the checkpoints of a log with the newest one that this machine remembers.

    Args:
        place: Where they are remembered; None for nowhere, and then nothing is compared.
    """

    def __init__(self, place: SeenCheckpoints | None) -> None:
        self._place = place
        self._parsed_last: tuple[TrustRoot, Recalled] | None = None

    @property
    def is_kept(self) -> bool:
        """Whether anything is remembered and compared at all."""
        return self._place is not None

    def recall(self, trust: TrustRoot, keyring: Callable[[], Keyring]) -> Recalled:
        """Return what is remembered of a log.

        Ask before the ledger's head is read: another process may see and remember a newer one in
        between.

        Args:
            trust: Which log is meant, and whose keys count from the start.
            keyring: Returns the keys in force now; asked, if need be, after the memory was read, so
                that a rotation that is remembered is known.
        """
        data = None if self._place is None else self._place.read(trust.origin)
        if data is None:
            return Recalled()
        last = self._parsed_last
        if last is None or last[0] != trust or last[1].data != data:
            self._parsed_last = last = (trust, self._parsed(data, trust, keyring))
        return last[1]

    def accept(
        self,
        recalled: Recalled,
        newest: Checkpoint,
        head: TreeHead,
        leaves_from: Callable[[int], Iterable[bytes]],
    ) -> None:
        """Check that a checkpoint extends what is remembered, and remember it instead.

        Args:
            recalled: From `recall`, before `head` was read.
            newest: The checkpoint of `head`, from `checked_head`.
            head: The ledger's newest head.
            leaves_from: Returns the leaves from an index up to the size of `head`.

        Raises:
            LedgerIntegrityError: It does not; both checkpoints are kept, and the message says
                where. A retry does not help.
        """
        if self._place is None:
            return
        if recalled.is_strange:
            raise LedgerIntegrityError(
                f"This machine has seen a checkpoint of log {newest.origin} that was signed by a "
                "log key to which neither the trust file nor a rotation in the ledger leads: the "
                "ledger was set back to before a rotation, or the trust file is another one.",
                remedy=_REMEDY,
            )
        seen = recalled.seen
        if seen is not None:
            kept = seen.checkpoint
            if (kept.size, kept.root_hash) == (newest.size, newest.root_hash):
                return
            if not seen.is_extended_by(newest, leaves_from(kept.size)):
                raise self._contradiction(kept, newest)
        data = SeenCheckpoint(newest, head.peaks).as_bytes()
        self._place.replace(newest.origin, data, instead_of=recalled.data)

    def _parsed(self, data: bytes, trust: TrustRoot, keyring: Callable[[], Keyring]) -> Recalled:
        origin = trust.origin
        try:
            try:  # mostly no key was rotated, and no leaf has to be looked through
                seen = SeenCheckpoint.parse(data, trust.log_keys, origin=origin)
            except UnknownKeyError:
                seen = SeenCheckpoint.parse(data, keyring().log_keys, origin=origin)
            return Recalled(data, seen)
        except UnknownKeyError:
            return Recalled(data, is_strange=True)
        except LedgerIntegrityError as error:
            where = self._keep(origin, f"unread-{_name_of(data)}", data)
            log.warning(
                "What this machine remembers of log %s cannot be read, so nothing is compared with "
                "it (%s) It is kept in %s.",
                origin,
                error.problem,
                where,
            )
            return Recalled(data)

    def _contradiction(self, kept: Checkpoint, newest: Checkpoint) -> LedgerIntegrityError:
        places = [
            self._keep(c.origin, f"{c.size}-{c.root_hash[:16]}.note", c.note.encode("utf-8"))
            for c in (kept, newest)
        ]
        return LedgerIntegrityError(
            f"Two signed checkpoints of log {newest.origin} contradict each other: this machine "
            f"has seen one over {kept.size} entries (root {kept.root_hash[:16]}), and the one over "
            f"{newest.size} entries (root {newest.root_hash[:16]}) that the ledger shows now does "
            "not extend it: entries that were signed are gone or are others. Both are kept: "
            f"{' and '.join(places)}.",
            remedy=_REMEDY,
        )

    def _keep(self, origin: str, name: str, data: bytes) -> str:
        return "" if self._place is None else self._place.keep(origin, name, data)


def _name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
