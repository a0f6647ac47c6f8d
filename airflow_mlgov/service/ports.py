"""What the service needs from the outside; `airflow_mlgov.wiring` plugs the implementations in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.merkle import MerkleTree
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.outbox import OutboxItem


class Signer(Protocol):
    """A private key that signs."""

    @property
    def role(self) -> KeyRole:
        """What the key is for."""
        ...

    @property
    def name(self) -> str:
        """Name of the key in C2SP note form."""
        ...

    @property
    def public_key(self) -> bytes:
        """The public key, as `airflow_mlgov.ledger.signatures` describes it."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, in its one form.

        Raises `LedgerUnavailableError` (a retry may help) if the key is elsewhere and out of reach.
        """
        ...


@dataclass(frozen=True, slots=True)
class InboxItem:
    """An acknowledged entry that is not in the tree yet.

    Attributes:
        key: Idempotency key.
        leaf: Exact DSSE envelope bytes.
    """

    key: str
    leaf: bytes


@dataclass(frozen=True, slots=True)
class TreeHead:
    """The newest signed state of the tree, and the nodes that the next leaf needs.

    Attributes:
        size: Leaves in the tree.
        peaks: Roots of the perfect subtrees of it, largest first (compact range of 0..size).
        note: The signed checkpoint over it; empty for an empty ledger.
    """

    size: int
    peaks: tuple[bytes, ...]
    note: bytes


@dataclass(frozen=True, slots=True)
class Sequenced:
    """What one round of sequencing adds.

    Attributes:
        leaf_hashes: One for each inbox item, in the order taken.
        head: The tree head after them.
    """

    leaf_hashes: tuple[bytes, ...]
    head: TreeHead


@dataclass(frozen=True, slots=True)
class Anchored:
    """A checkpoint that an anchor took, and what it gave for it.

    Attributes:
        anchor: Name of the anchor.
        kind: ``directory``, ``timestamp`` or ``witness``.
        size: Leaves under the checkpoint.
        note: The checkpoint's exact bytes, as the log's key signed it.
        data: A cosignature's note line, or a time-stamp response; empty for a directory.
        at: When it was taken, by the clock of who asked.
    """

    anchor: str
    kind: str
    size: int
    note: bytes
    data: bytes
    at: datetime


class LedgerStore(Protocol):
    """Keeps inbox, leaves, checkpoints and disclosures; every method is one transaction.

    Beside the entries it keeps an index of them (`airflow_mlgov.service.leaf_index`), written in
    the same transaction. It is there to find things, and nobody believes it.

    All methods raise `LedgerUnavailableError` (a retry may help) if the store cannot be reached, is
    locked or full.
    """

    def insert(
        self,
        item: InboxItem,
        disclosures: Mapping[str, Disclosure],
        at: datetime,
        *,
        lineage: Sequence[OutboxItem] = (),
    ) -> bytes | None:
        """Acknowledge an entry durably, append its lineage to the outbox with it, and return None.

        If a leaf is kept under this key already, return that and write nothing.
        """
        ...

    def get(self, key: str) -> tuple[bytes, int | None] | None:
        """Return the leaf under a key and its index (None while in the inbox), or None."""
        ...

    def sequence(self, integrate: Callable[[TreeHead, Sequence[InboxItem]], Sequenced]) -> TreeHead:
        """Hand head and whole inbox to `integrate` under the one lock; store what it returns."""
        ...

    def head(self) -> TreeHead:
        """Return the newest signed head."""
        ...

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the exact leaf bytes of indices start..end-1, in order."""
        ...

    def leaf_hashes(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the hashes of the leaves of indices start..end-1, computed from their bytes."""
        ...

    def subtrees(self, count: int) -> list[bytes]:
        """Return the roots of the first full subtrees of 256 leaves, as the index has them."""
        ...

    def about(self, model: str) -> Iterator[tuple[int, bytes]]:
        """Yield index and leaf of the entries in the tree that the index lists under a model."""
        ...

    def indexed(self, end: int) -> Iterator[tuple[int, str]]:
        """Yield which model the index lists entries under, in order, those below `end`."""
        ...

    def disclosures(self, key: str) -> dict[str, Disclosure]:
        """Return what opens the commitments of an entry, by field; empty once erased."""
        ...

    def erase(self, fields: Sequence[tuple[str, str]]) -> int:
        """Delete durably what opens these fields, all or nothing; return how many were there still.

        Once it returns, no file of the store holds the bytes any more; with fields that are gone
        already, or none, it sees to that for earlier calls that did not get so far.

        Args:
            fields: An entry's key and a field of it, ``people.<name>`` or ``texts.<name>``.
        """
        ...

    def inbox(self) -> list[InboxItem]:
        """Return the acknowledged entries that are not in the tree yet, oldest first."""
        ...

    def waiting(self) -> int:
        """Return how many acknowledged entries are not in the tree yet."""
        ...

    def keep_anchored(self, anchored: Anchored) -> None:
        """Keep what an anchor gave; if something of this anchor and size is kept, that stays."""
        ...

    def anchored(self, *, newest: bool = False) -> list[Anchored]:
        """Return what anchors gave, by size and name; with `newest` only each anchor's last."""
        ...


class Anchor(Protocol):
    """A place outside of whoever holds database and log key, which remembers a checkpoint."""

    @property
    def name(self) -> str:
        """What the settings call it."""
        ...

    @property
    def kind(self) -> str:
        """``directory``, ``timestamp`` or ``witness``."""
        ...

    def take(self, checkpoint: Checkpoint, tree: Callable[[], MerkleTree], since: int) -> bytes:
        """Hand a checkpoint over, and return what the anchor gave for it, checked.

        Args:
            checkpoint: Its signature was checked.
            tree: Returns the tree under it, re-hashed; only called if the anchor needs it.
            since: Size of the newest checkpoint that it took before, as far as is known; else 0.

        Raises:
            LedgerIntegrityError: It knows a checkpoint of this log that this one does not extend: a
                retry does not help.
            AnchorError: It gave something that does not verify, or refuses.
            AnchorUnavailableError: It cannot be reached; a retry may help.
        """
        ...

    def check(self, note: bytes, data: bytes) -> datetime | None:
        """Check what it gave for a checkpoint; return the time that it vouches for, if any.

        Raises:
            LedgerIntegrityError: It is not this anchor's, or of something else.
            AnchorError: What is needed to check it is missing.
        """
        ...

    def notes(self, origin: str) -> list[bytes]:
        """Return the checkpoints of a log that it can show by itself; empty for most kinds.

        Raises:
            AnchorUnavailableError: It cannot be read; a retry may help.
        """
        ...


class SeenCheckpoints(Protocol):
    """Remembers on the process's own machine the newest checkpoint that it saw of each log.

    No method raises if the place cannot be read or written: it warns, and the process goes on
    without, because what protects the ledger must not stop a gate.
    """

    def read(self, origin: str) -> bytes | None:
        """Return what is remembered of a log; None if nothing is, or it cannot be read."""
        ...

    def replace(self, origin: str, data: bytes, *, instead_of: bytes | None) -> bool:
        """Remember something else of a log, if what is remembered is still `instead_of`.

        Returns:
            Whether it is now remembered; False too if another process was faster.
        """
        ...

    def keep(self, origin: str, name: str, data: bytes) -> str:
        """Keep evidence beside what is remembered of a log.

        Args:
            origin: Which log.
            name: File name; the same name again changes nothing.
            data: What to keep.

        Returns:
            Where it is, for people; or that it could not be kept.
        """
        ...

    def evidence(self) -> list[str]:
        """Return where evidence is kept, of any log, for people; empty if there is none."""
        ...


class EvidenceStore(Protocol):
    """Keeps documents by the digest of their bytes."""

    def put(self, document: bytes) -> Digest:
        """Keep a document durably and return its digest; keeping it twice is fine.

        Raises:
            EvidenceError: The store cannot be written.
        """
        ...

    def get(self, digest: Digest) -> bytes:
        """Return the document with this digest, re-hashed on reading.

        Raises:
            EvidenceError: Missing or altered; a retry does not help.
        """
        ...


@dataclass(frozen=True, slots=True)
class RegistryVersion:
    """A model version as a registry knows it.

    Attributes:
        registry: Kind of registry (``mlflow``, ``sagemaker``, ``vertex``, ``azureml``).
        name: Registered model.
        version: The registry's own version number.
        manifest: Digest that the registry's version is tagged with; None if it was not registered
            by us.
        uri: For lineage and people, without credentials (``mlflow://host:port/name/version``).
        namespace: OpenLineage namespace of its datasets (``mlflow://host:port``).
        is_approved: Whether the registry itself shows it as approved; None where it has no such
            status. It is a projection of the ledger and decides nothing.
    """

    registry: str
    name: str
    version: str
    manifest: Digest | None
    uri: str
    namespace: str
    is_approved: bool | None = field(default=None, compare=False)


class Registry(Protocol):
    """Where model versions live.

    All methods raise `RegistryUnavailableError` (a retry may help) if it cannot be reached.
    """

    def register(
        self, name: str, model_dir: Path, manifest: Manifest, tags: Mapping[str, str]
    ) -> RegistryVersion:
        """Store a model folder unchanged and register it as a version.

        The same manifest again returns the same version.
        """
        ...

    def find(self, name: str, manifest: Digest) -> RegistryVersion:
        """Return the version with this manifest; `VersionNotFoundError` if there is none."""
        ...

    def by_alias(self, name: str, alias: str) -> RegistryVersion:
        """Return the version that an alias points to; `VersionNotFoundError` if there is none."""
        ...

    def get(self, name: str, version: str) -> RegistryVersion:
        """Return a version by the registry's number; `VersionNotFoundError` if there is none."""
        ...

    def fetch(self, version: RegistryVersion, into: Path) -> Path:
        """Copy the model folder, and nothing else, to a private directory; return its path."""
        ...

    def set_alias(self, version: RegistryVersion, alias: str) -> None:
        """Point an alias at a version, and show it as approved; doing it twice is fine."""
        ...

    def unset_alias(self, version: RegistryVersion, alias: str) -> None:
        """Take an alias and the status away from a version; fine if it does not point there."""
        ...

    def versions(self, name: str) -> Sequence[RegistryVersion]:
        """Return every version of a model, newest first; empty if there is no such model."""
        ...

    def check(self) -> str:
        """Ask whether it answers and its store takes files; return a line about it for `doctor`.

        Raises:
            RegistryError: It is not so; a retry does not help.
        """
        ...

    def missing_permissions(self) -> Sequence[str]:
        """Return what we may not do of what a registry needs.

        Empty for nothing, and of a registry that knows no such question.

        Raises:
            RegistryError: The vendor cannot be asked about that; a retry does not help.
        """
        ...
