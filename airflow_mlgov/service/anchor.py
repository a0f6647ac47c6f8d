"""Handing checkpoints to places outside of whoever holds database and log key.

Whoever has both can write another history and sign it. What they cannot do is take back what
somebody else has seen: a folder of another team, a time-stamp authority, a witness.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from airflow_mlgov.errors import LedgerIntegrityError, MlgovError
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash
from airflow_mlgov.records.clock import Clock
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.service.ports import Anchor, Anchored, LedgerStore

LOOK_S = 5.0
"""Seconds between two looks whether an anchor is due."""
RETRY_AFTER = timedelta(minutes=1)
"""After a failure, the next try comes so much later, or when the anchor is due again if sooner."""


@dataclass(frozen=True, slots=True)
class Due:
    """An anchor, and how often it is wanted.

    Attributes:
        anchor: Where checkpoints go.
        every: How long after a success the next one is due, if the ledger has grown.
    """

    anchor: Anchor
    every: timedelta


@dataclass(frozen=True, slots=True)
class AnchorProgress:
    """What was seen of an anchor.

    Attributes:
        name: What the settings call it.
        size: Entries under the newest checkpoint that it took; 0 if it took none.
        at: When that was; None if it took none.
        failures: Tries that failed since the start.
        problem: What went wrong in the last try; empty if nothing did.
        contradicts: Whether it knows another history than the ledger shows.
    """

    name: str
    size: int = 0
    at: datetime | None = None
    failures: int = 0
    problem: str = ""
    contradicts: bool = False


class Anchoring:
    """Hands the newest checkpoint to every anchor that is due; none holds up another's turn.

    Args:
        ledger: Knows whose keys count.
        store: Where the ledger is kept, and what anchors gave.
        clock: Where times come from.
        anchors: Where checkpoints go.
        say: Told what people should know, a sentence at a time.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: LedgerStore,
        clock: Clock,
        anchors: Sequence[Due],
        say: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._anchors = tuple(anchors)
        self._say = say
        self._stopping = threading.Event()
        self._trouble = ""
        self._failed_at: dict[str, datetime] = {}
        self._progress = {due.anchor.name: AnchorProgress(due.anchor.name) for due in self._anchors}

    @property
    def progress(self) -> tuple[AnchorProgress, ...]:
        """What was seen of each anchor, in the order of the settings."""
        return tuple(self._progress[due.anchor.name] for due in self._anchors)

    def stop(self) -> None:
        """Let `run` return after the anchor in hand."""
        self._stopping.set()

    def run(self) -> None:
        """Work until `stop` is called, whatever fails."""
        while not self._stopping.is_set():
            try:
                self.round()
                self._trouble = ""
            except MlgovError as error:
                if not self._trouble:
                    self._say(f"Nothing is handed to any anchor. {error.problem}")
                self._trouble = error.problem
            self._stopping.wait(LOOK_S)

    def round(self, *, only_due: bool = True) -> None:
        """Hand the newest checkpoint to each anchor that has not got it; failures are noted.

        Args:
            only_due: Leave out those whose last success is not so long ago.

        Raises:
            LedgerIntegrityError: The ledger's own checkpoint does not verify.
            LedgerUnavailableError: The store cannot be reached, or nothing was signed yet; a retry
                may help.
        """
        checkpoint = self._ledger.checkpoint()
        last = {row.anchor: row for row in self._store.anchored(newest=True)}
        tree = _lazily(checkpoint, self._store)
        for due in self._anchors:
            if self._stopping.is_set():
                return
            row = last.get(due.anchor.name)
            if row is not None:
                self._note(due.anchor.name, size=row.size, at=row.at)
            try:
                if self._is_wanted(due, row, checkpoint, only_due=only_due):
                    self._take(due.anchor, checkpoint, tree, 0 if row is None else row.size)
            except MlgovError as error:
                self._failed(due.anchor.name, error)

    def _is_wanted(
        self, due: Due, row: Anchored | None, checkpoint: Checkpoint, *, only_due: bool
    ) -> bool:
        if row is not None and row.size >= checkpoint.size:
            if row.note != checkpoint.note.encode("utf-8"):
                raise LedgerIntegrityError(
                    f"Anchor {due.anchor.name} took a checkpoint over {row.size} entries that is "
                    f"not the ledger's, which has {checkpoint.size}: entries were removed or "
                    "altered."
                )
            return False
        now, failed_at = self._clock.now(), self._failed_at.get(due.anchor.name)
        has_failed = failed_at is not None and _is_within(
            now - failed_at, min(RETRY_AFTER, due.every)
        )
        is_fresh = row is not None and _is_within(now - row.at, due.every)
        return not only_due or not (has_failed or is_fresh)

    def _take(
        self, anchor: Anchor, checkpoint: Checkpoint, tree: Callable[[], MerkleTree], since: int
    ) -> None:
        data = anchor.take(checkpoint, tree, since)
        at, note = self._clock.now(), checkpoint.note.encode("utf-8")
        self._store.keep_anchored(
            Anchored(anchor.name, anchor.kind, checkpoint.size, note, data, at)
        )
        if self._progress[anchor.name].problem:
            self._say(f"Anchor {anchor.name} takes checkpoints again.")
        self._failed_at.pop(anchor.name, None)
        self._note(anchor.name, size=checkpoint.size, at=at, problem="", contradicts=False)

    def _failed(self, name: str, error: MlgovError) -> None:
        before = self._progress[name]
        contradicts = isinstance(error, LedgerIntegrityError)
        if not before.problem or contradicts > before.contradicts:
            self._say(f"Anchor {name} took no checkpoint. {error}")
        self._failed_at[name] = self._clock.now()
        self._note(
            name,
            failures=before.failures + 1,
            problem=error.problem,
            contradicts=contradicts or before.contradicts,
        )

    def _note(self, name: str, **seen: object) -> None:
        self._progress[name] = replace(self._progress[name], **seen)  # type: ignore[arg-type]


def _is_within(age: timedelta, limit: timedelta) -> bool:
    # A clock that was set back must not put an anchor off for as long as it was wrong.
    return timedelta(0) <= age < limit


def _lazily(checkpoint: Checkpoint, store: LedgerStore) -> Callable[[], MerkleTree]:
    built: list[MerkleTree] = []

    def tree() -> MerkleTree:
        if not built:
            grown = MerkleTree(leaf_hash(leaf) for leaf in store.leaves(0, checkpoint.size))
            if grown.root().hex() != checkpoint.root_hash:
                raise LedgerIntegrityError(
                    "The stored entries do not give the root of the newest checkpoint: one was "
                    "altered."
                )
            built.append(grown)
        return built[0]

    return tree
