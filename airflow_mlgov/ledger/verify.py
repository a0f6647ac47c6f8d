"""Checking a whole ledger, and saying in plain words what was found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from airflow_mlgov.errors import LedgerIntegrityError, UnknownKeyError
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.erasures import Place, Unaccounted, sentence
from airflow_mlgov.ledger.heartbeats import Pulse
from airflow_mlgov.ledger.key_set import KeySet
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.merkle import (
    EMPTY_ROOT,
    SUBTREE_LEAVES,
    append_leaves,
    leaf_hash,
    root_of_peaks,
)
from airflow_mlgov.ledger.model_index import ModelCount, ModelIndex
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.ledger.view import ROTATIONS, Disclose, SealedEntry, label, label_of, read_entry
from airflow_mlgov.records.clock import to_text

EXIT_FINE, EXIT_ALTERED, EXIT_UNKNOWN_KEY = 0, 1, 3
MAX_PROBLEMS = 100
"""Problems listed at most: one deleted entry spoils all that follow."""


@dataclass(frozen=True)
class Report:
    """What a verification found.

    Attributes:
        origin: Which log.
        size: Entries that were read.
        root_hash: Root hash that they give, 64 hexadecimal characters.
        kinds: Sound entries by kind.
        opened: Names and texts that were disclosed and are what was committed to.
        closed: Commitments that nothing opens (erased, or not disclosed to this reader).
        unaccounted: Which of these no ``erased`` entry names.
        problems: What is wrong, in words; empty if nothing is.
        unknown_keys: What is signed by keys that the reader was not told to trust.
        earlier: How many checkpoints kept elsewhere were found to be consistent.
        alive_at: When the newest heartbeat, or other entry of the log key, was written; None
            without one.
        remarks: What a reader should know and what is no fault of the ledger, in sentences.
        waiting: Acknowledged entries that no checkpoint covers yet.
        remembered: Size of the checkpoint that this machine remembers and the ledger extends; 0 if
            it remembers none.
        anchors: What was found of each anchor, in words.
    """

    origin: str
    size: int
    root_hash: str
    kinds: Mapping[str, int]
    opened: int
    closed: int
    unaccounted: tuple[Place, ...]
    problems: tuple[str, ...]
    unknown_keys: tuple[str, ...]
    earlier: int
    alive_at: datetime | None
    remarks: tuple[str, ...]
    waiting: int = 0
    remembered: int = 0
    anchors: tuple[str, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether everything that was checked is as it should be."""
        return not self.problems and not self.unknown_keys

    @property
    def exit_code(self) -> int:
        """0 fine, 1 altered, 3 an unknown key and nothing worse."""
        if self.problems:
            return EXIT_ALTERED
        return EXIT_UNKNOWN_KEY if self.unknown_keys else EXIT_FINE

    def with_problems(self, problems: Iterable[str]) -> Report:
        """Return this report with more problems."""
        return replace(self, problems=(*self.problems, *problems))

    def with_erasures(self, later: Iterable[bytes], keyring: Keyring) -> Report:
        """Return this report with a problem if a name or text was removed behind the ledger's back.

        Only for who has everything that was ever disclosed.

        Args:
            later: Exact leaf bytes after those of this report, read after them: what was erased
                while this report was made has its entry there.
            keyring: Whose keys count, after the entries of this report.
        """
        missing = Unaccounted(self.unaccounted)
        if missing.places:
            with suppress(LedgerIntegrityError):  # for the next verification to report
                for index, leaf in enumerate(later, self.size):
                    with suppress(LedgerIntegrityError):
                        missing.account(read_entry(index, leaf, keyring, lambda _: {}))
        report = replace(self, unaccounted=missing.places)
        if not missing.places:
            return report
        said = sentence(missing.places)
        if self.unknown_keys:  # what such a key signed may be what accounts for them
            return replace(report, remarks=(*self.remarks, f"{said}; one of an unknown key may."))
        return report.with_problems([f"{said}: they were removed from the store."])

    def lines(self) -> list[str]:
        """Return the report as lines for a person."""
        verdict = "The ledger verifies." if self.is_fine else "THE LEDGER DOES NOT VERIFY."
        remarks = ["Remarks:", *(f"  {remark}" for remark in self.remarks)] if self.remarks else []
        return [verdict, *self._found(), *self._checked(), *remarks, *_CANNOT_PROVE]

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON values."""
        return {
            "fine": self.is_fine,
            "origin": self.origin,
            "entries": self.size,
            "root_hash": self.root_hash,
            "kinds": dict(self.kinds),
            "opened": self.opened,
            "closed": self.closed,
            "unaccounted": [list(place) for place in self.unaccounted],
            "waiting": self.waiting,
            "earlier_checkpoints": self.earlier,
            "remembered": self.remembered,
            "alive_at": None if self.alive_at is None else to_text(self.alive_at),
            "anchors": list(self.anchors),
            "remarks": list(self.remarks),
            "problems": list(self.problems),
            "unknown_keys": list(self.unknown_keys),
        }

    def _found(self) -> list[str]:
        found = [*self.problems, *self.unknown_keys]
        lines = [f"  ! {problem}" for problem in found[:MAX_PROBLEMS]]
        if len(found) > MAX_PROBLEMS:
            lines.append(f"  ! and {len(found) - MAX_PROBLEMS} more")
        return lines

    def _checked(self) -> list[str]:
        sound = sum(self.kinds.values())
        lines = [
            "Checked:",
            f"  log {self.origin}",
            f"  {self.size} entries, re-hashed from their stored bytes: root {self.root_hash}",
            f"  {sound} of them are well-formed and signed by a key that may sign their kind",
            f"  {self.opened} names and texts are what was committed to; {self.closed} are closed",
        ]
        if self.earlier:
            lines.append(f"  the ledger extends {self.earlier} checkpoint(s) kept elsewhere")
        if self.remembered:
            lines.append(f"  it extends the {self.remembered} entries that this machine remembers")
        if self.alive_at is not None:
            lines.append(
                "  newest heartbeat, or other entry of the log key: "
                f"{self.alive_at:%Y-%m-%d %H:%M:%S} UTC by its clock"
            )
        lines += (f"  {found}" for found in self.anchors)
        if self.waiting:
            lines.append(f"  {self.waiting} acknowledged entries wait for the next checkpoint")
        return lines


_CANNOT_PROVE = (
    "Not proven by this:",
    "  that nothing was left out, or that what the entries claim is true",
    "  that no entries after the last checkpoint kept elsewhere were dropped",
    "  who holds the keys: the trust file must reach you by another way than the ledger",
)


def verify_ledger(
    leaves: Iterable[bytes],
    note: bytes,
    trust: TrustRoot,
    *,
    disclose: Disclose,
    earlier: Sequence[Checkpoint] = (),
    now: datetime | None = None,
) -> Report:
    """Check every entry, the tree over them and its checkpoint, in one pass and little memory.

    Args:
        leaves: Exact leaf bytes in order.
        note: The newest signed checkpoint.
        trust: Whose keys count, from elsewhere.
        disclose: Reads what opens an entry's commitments.
        earlier: Checkpoints kept elsewhere, whose signatures were checked.
        now: The reader's present moment in UTC, for the age of the newest heartbeat; without it,
            that is not judged.
    """
    reading = _Reading(trust, disclose, earlier)
    try:
        for leaf in leaves:
            reading.add(leaf)
    except LedgerIntegrityError as error:
        reading.problems.append(error.problem)
    reading.compare(note)
    return reading.report(now)


class _Reading:
    def __init__(self, trust: TrustRoot, disclose: Disclose, earlier: Sequence[Checkpoint]) -> None:
        self.problems: list[str] = []
        self._unknown_keys: list[str] = []
        self._keyring = Keyring(trust)
        self._origin = trust.origin
        self._disclose = disclose
        self._earlier = earlier
        self._sizes = frozenset(checkpoint.size for checkpoint in earlier)
        self._extended = 0
        self._roots: dict[int, str] = {0: EMPTY_ROOT.hex()}
        self._grown = append_leaves((), 0, ())
        self._pending: list[bytes] = []  # leaf hashes that are not in it yet
        self._kinds: Counter[str] = Counter()
        self._keys = KeySet()
        self._pulse = Pulse()
        self._opened = self._closed = 0
        self._unaccounted = Unaccounted()
        self._models: defaultdict[str, ModelIndex] = defaultdict(ModelIndex)
        self._rotations: list[int] = []

    def add(self, leaf: bytes) -> None:
        index = self._size
        hashed = leaf_hash(leaf)
        self._pending.append(hashed)
        if len(self._pending) == SUBTREE_LEAVES:
            self._grow()
        if index + 1 in self._sizes:
            self._roots[index + 1] = self._root()
        entry = None
        try:
            entry = read_entry(index, leaf, self._keyring, self._disclose)
            self._add_entry(entry)
        except UnknownKeyError as error:
            self._unknown_keys.append(f"Entry {index} counts for nothing: {error.problem}")
        except LedgerIntegrityError as error:
            self.problems.append(f"Entry {index} counts for nothing: {error.problem}")
        self._keyring = self._keyring.after(index, leaf)
        # What counts for nothing is listed under what it says, too.
        listed = label_of(leaf) if entry is None else label(entry.kind, entry.model)
        if listed == ROTATIONS:
            self._rotations.append(index)
        else:
            self._models[listed].add(index, hashed)

    def compare(self, note: bytes) -> None:
        try:
            checkpoint = self._keyring.open(note)
        except UnknownKeyError as error:
            self._unknown_keys.append(error.problem)
            return
        except LedgerIntegrityError as error:
            self.problems.append(f"The newest checkpoint: {error.problem}")
            return
        self._compare("The signed checkpoint", checkpoint, self._size, self._root())
        for kept in self._earlier:
            what = "A checkpoint kept elsewhere"
            size, root = min(kept.size, self._size), self._roots.get(kept.size)
            self._extended += self._compare(what, kept, size, root)

    def report(self, now: datetime | None) -> Report:
        return Report(
            origin=self._origin,
            size=self._size,
            root_hash=self._root(),
            kinds=dict(sorted(self._kinds.items())),
            opened=self._opened,
            closed=self._closed,
            unaccounted=self._unaccounted.places,
            problems=tuple(self.problems),
            unknown_keys=tuple(self._unknown_keys),
            earlier=self._extended,
            alive_at=self._pulse.newest_at,
            remarks=(*self._pulse.remarks(now), *self._remarks_on_keys()),
        )

    def _remarks_on_keys(self) -> list[str]:
        # Whoever stole a log key that was rotated out could sign a log in which it never was.
        count = len(self._keyring.at(self._size).log_keys)
        if count < 2:
            return []
        said = (
            f"{count} log keys of the trust file count to the end of this ledger. If one of them "
            "was rotated out, the entry that says so is not here: entries were cut off."
        )
        return [said]

    @property
    def _size(self) -> int:
        return self._grown.size + len(self._pending)

    def _grow(self) -> None:
        self._grown = append_leaves(self._grown.peaks, self._grown.size, self._pending)
        self._pending.clear()

    def _root(self) -> str:
        self._grow()
        return root_of_peaks(self._grown.peaks, self._grown.size).hex()

    def _compare(self, what: str, checkpoint: Checkpoint, size: int, root_hash: str | None) -> bool:
        found = len(self.problems)
        if checkpoint.origin != self._origin:
            self.problems.append(f"{what} is of another log, {checkpoint.origin}.")
        elif checkpoint.size != size:
            self.problems.append(
                f"{what} says {checkpoint.size} entries, the ledger holds {size}: "
                "entries were removed or added."
            )
        elif checkpoint.root_hash != root_hash:
            self.problems.append(
                f"{what} over {size} entries has another root hash: an entry was altered, "
                "replaced, moved or removed."
            )
        return len(self.problems) == found

    def _add_entry(self, entry: SealedEntry) -> None:
        if (entry.index == 0) != (entry.kind == "genesis"):
            raise LedgerIntegrityError("The first entry, and no other, is the genesis entry.")
        if not self._keys.add(entry.key):
            raise LedgerIntegrityError("It stands in the ledger twice.")
        if entry.kind == "model.indexed":
            self._check_count(entry)
        self._kinds[entry.kind] += 1
        self._pulse.add(entry)
        self._unaccounted.account(entry)
        for name in entry.people:
            self._count(entry.index, f"people.{name}", entry.person(name))
        for name in entry.texts:
            self._count(entry.index, f"texts.{name}", entry.text(name))

    def _check_count(self, entry: SealedEntry) -> None:
        said = ModelCount.of_body(entry.body)
        found = self._models[entry.model].count(said.size, self._rotations)
        if said.size > entry.index or said != found:
            raise LedgerIntegrityError(
                f"It says {said.count} of the first {said.size} entries are about "
                f"{entry.model} and {said.rotations} rotate keys, which is not so."
            )

    def _count(self, index: int, name: str, opened: object) -> None:
        if opened is None:
            self._closed += 1
            self._unaccounted.add(index, name)
        else:
            self._opened += 1
