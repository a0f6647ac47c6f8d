"""Which log a store holds, and whose keys count in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import dropwhile, takewhile

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError, LedgerUnavailableError
from airflow_mlgov.ledger.checkpoint import Vkey
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.ledger.view import ROTATIONS
from airflow_mlgov.records.clock import Clock
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ports import InboxItem, LedgerStore, Signer
from airflow_mlgov.service.sequencing import (
    GENESIS_KEY,
    check_in_force,
    new_genesis,
    origin_in,
)


class LogRoot:
    """The name and the keys of a log, seen from a process that holds some of its keys.

    Args:
        store: Where the log is kept.
        signers: Private keys that this process holds, by role.
        clock: Where the time of the genesis entry comes from.
        trust: Public keys of roles whose private key is not here; its origin must be the log's.
        retired: Keys that this process held once, by role.
    """

    def __init__(
        self,
        store: LedgerStore,
        signers: Mapping[KeyRole, Signer],
        clock: Clock,
        trust: TrustRoot | None,
        retired: Mapping[KeyRole, Iterable[Vkey]],
    ) -> None:
        self._store = store
        self._signers = signers
        self._clock = clock
        self._trust = trust
        self._retired = retired
        self._named: tuple[bytes, str] | None = None  # the genesis leaf, and the origin in it
        self._rooted: tuple[str, TrustRoot] | None = None  # the origin, and the root for it
        self._ring: tuple[int, Keyring] | None = None  # leaves that were looked through, and keys

    @property
    def origin(self) -> str:
        """The log's name, from the genesis entry that the first holder of the log key writes.

        Raises:
            LedgerUnavailableError: Nobody who holds the log key has started the ledger; a retry may
                help.
            LedgerIntegrityError: The genesis entry was altered, removed or exchanged.
        """
        kept = self._store.get(GENESIS_KEY)
        leaf = self._begin() if kept is None else kept[0]
        if self._named is None:
            self._named = (leaf, origin_in(leaf))
        if self._named[0] != leaf:
            raise LedgerIntegrityError(
                f"The ledger that this process knew as {self._named[1]} has another genesis entry "
                "now: it was altered, or exchanged for another ledger.",
                remedy="If you exchanged it yourself, restart what has used the former one.",
            )
        return self._named[1]

    @property
    def known_origin(self) -> str:
        """The log's name as this process read it first: no further trip to the store."""
        return self.origin if self._named is None else self._named[1]

    def trust_root(self) -> TrustRoot:
        """Return the log's name and every public key that this process knows of.

        Raises:
            ConfigurationError: No log key is known; a retry does not help.
            LedgerIntegrityError: The trust that this process was given is of another log.
        """
        origin = self.origin
        if self._rooted is None or self._rooted[0] != origin:
            self._rooted = (origin, self._trust_root_of(origin))
        return self._rooted[1]

    def keyring(
        self, size: int, trust: TrustRoot | None = None, leaves: Sequence[bytes] = ()
    ) -> Keyring:
        """Return the keys that count, after the rotations among the first entries.

        Leaves that were read already are looked through, each once in the life of this object. Else
        the store's index says where rotations are: each is signed by the keys that it names, and
        one that an index hides leaves a reader with keys that signed nothing since.

        Args:
            size: How many entries at least; those under a signed checkpoint.
            trust: Whose keys count from the start; by default what `trust_root` says.
            leaves: The first leaves, if they were read already.

        Raises:
            ConfigurationError: No log key is known; a retry does not help.
            LedgerUnavailableError: The store cannot be reached; a retry may help.
        """
        trust = trust or self.trust_root()
        start, ring = self._ring or (0, Keyring(trust))
        if ring.trust != trust:
            start, ring = 0, Keyring(trust)
        have = enumerate(leaves[start:], start) if leaves else self._rotations(start)
        try:
            for index, leaf in takewhile(lambda row: row[0] < size, have):
                ring = ring.after(index, leaf)
        except LedgerIntegrityError:
            return ring  # a damaged entry; whoever reads it says so
        self._ring = (max(start, size), ring)
        return ring

    def _rotations(self, start: int) -> Iterator[tuple[int, bytes]]:
        return dropwhile(lambda row: row[0] < start, self._store.about(ROTATIONS))

    def check_in_force(self, signer: Signer) -> None:
        """Refuse a key that was rotated out, as far as the leaves were looked through.

        Raises:
            ConfigurationError: It was; a retry does not help.
        """
        if self._ring is not None:
            size, ring = self._ring
            check_in_force(ring, signer, size)

    def _trust_root_of(self, origin: str) -> TrustRoot:
        trust = self._trust
        if trust is None:
            if KeyRole.LOG not in self._signers:
                raise ConfigurationError(
                    "This process has neither the log key nor a trust file, so it cannot check "
                    "the ledger.",
                    remedy="Write a trust file with `airflow mlgov ledger trust --file FILE` "
                    "where the log key is.",
                )
            trust = TrustRoot(origin, (vkey_of(self._signers[KeyRole.LOG], origin),))
        if trust.origin != origin:
            raise LedgerIntegrityError(
                f"The ledger is {origin}; the trust file is of {trust.origin}."
            )
        for role, signer in self._signers.items():
            trust = trust.with_keys(role, [vkey_of(signer, origin)])
        for role, keys in self._retired.items():
            trust = trust.with_keys(role, keys)
        return trust

    def _begin(self) -> bytes:
        # Several processes may do this at once: the first is kept, and everybody takes that one.
        if self._named is None and KeyRole.LOG not in self._signers:
            raise LedgerUnavailableError(
                "The ledger has not been started: it has no genesis entry, and this process has "
                "no log key.",
                remedy="Start the sequencer, or give this process the log key.",
            )
        if self._named is not None or self._store.head().size:
            kept = self._store.get(GENESIS_KEY)  # another process may just have begun the ledger
            if kept is None:
                raise LedgerIntegrityError("The ledger's genesis entry is missing: it was removed.")
            return kept[0]
        at = self._clock.now()
        leaf = new_genesis(self._signers[KeyRole.LOG], at)
        return self._store.insert(InboxItem(GENESIS_KEY, leaf), {}, at) or leaf


def vkey_of(signer: Signer, origin: str) -> Vkey:
    """Return the public key of a signer, under its name in a log: a log's key bears the log's."""
    return Vkey(origin if signer.role is KeyRole.LOG else signer.name, signer.public_key)
