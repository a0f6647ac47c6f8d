"""Rotation of a key in ``keys_dir``: on record first, then in the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.ledger.entry import entry_key
from airflow_mlgov.ledger.signatures import algorithm_of, keyid
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.records.kinds import ROTATION, KeyRole
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.service.ports import LedgerStore, Signer
from airflow_mlgov.service.rotate import rotate_key, rotation_draft, vkey_of
from airflow_mlgov.signers.file import make_key
from airflow_mlgov.signers.key_files import KeyFiles
from airflow_mlgov.signers.kms import open_kms_signer
from airflow_mlgov.wiring.governance import open_seen
from airflow_mlgov.wiring.keys import HeldKeys, keys_folder, open_keys, passphrase, signer_in
from airflow_mlgov.wiring.ledger_store import open_ledger_store
from airflow_mlgov.wiring.settings import setting


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """One key of a role, without anything secret.

    Attributes:
        role: What it is for.
        state: ``in use``, ``next`` (of a rotation that was interrupted) or ``retired``.
        algorithm: What it signs with.
        keyid: Its name in entries.
        where: File, or URI in a KMS.
    """

    role: KeyRole
    state: str
    algorithm: str
    keyid: str
    where: str


def rotate_role(role: KeyRole, new_uri: str | None) -> int:
    """Put a new key in the place of a role's present one; return the index of the entry about it.

    Whatever interrupts it, called again it goes on: the new key is kept before it is on record, and
    the old one until it is under a signed checkpoint.

    Args:
        role: Whose key.
        new_uri: Where the new key is; without it a new key file is made.

    Raises:
        ConfigurationError: The role's key is not here or cannot sign, or another rotation of it is
            on record already; a retry does not help.
        LedgerIntegrityError: The ledger does not verify; a retry does not help.
        LedgerUnavailableError: The store or a KMS cannot be reached, or no sequencer covered the
            entry in time; a retry may help.
    """
    files = KeyFiles(keys_folder(), role)
    _finish_swap(files)
    held, store = open_keys(), open_ledger_store(setting("ledger_url"))
    if role not in held.signers:
        raise ConfigurationError(
            f"There is no {role} key in {files.folder}, so it cannot be rotated here.",
            remedy="Run this where the key is, as the user who owns it.",
        )
    old, before = held.signers[role], _ledger(store, held)
    if new_uri is not None:
        _replace_next(files, new_uri, store, before.origin, old)
    new = _next(files)
    after = _ledger(store, HeldKeys({**held.signers, role: new}, before.trust_root(), {}))
    sealed = rotate_key(before, after, old, new)
    files.retire(vkey_of(old, before.origin))
    files.swap()
    return sealed.index


def key_places() -> list[KeyPlace]:
    """Return every key in ``keys_dir`` and those that went before.

    Raises:
        ConfigurationError: A file cannot be used, or a KMS refuses; a retry does not help.
        LedgerUnavailableError: A KMS cannot be reached; a retry may help.
    """
    places = []
    for role in KeyRole:
        files = KeyFiles(keys_folder(), role)
        kept = {"in use": (files.key, files.uri), "next": (files.next_key, files.next_uri)}
        for state, paths in kept.items():
            for path in filter(Path.exists, paths):
                where = str(path) if path in (files.key, files.next_key) else files.read_uri(path)
                places.append(_place(role, state, signer_in(path, role).public_key, where))
        places += [
            _place(role, "retired", key.public_key, str(files.retired))
            for key in files.read_retired()
        ]
    return places


def _place(role: KeyRole, state: str, public_key: bytes, where: str) -> KeyPlace:
    return KeyPlace(role, state, algorithm_of(public_key).value, keyid(public_key), where)


def _ledger(store: LedgerStore, held: HeldKeys) -> Ledger:
    return Ledger(
        store,
        held.signers,
        SystemClock(),
        trust=held.trust,
        seen=open_seen(),
        retired=held.retired,
    )


def _finish_swap(files: KeyFiles) -> None:
    if not (files.key.exists() and files.uri.exists()):
        return
    gone = {key.public_key for key in files.read_retired()}
    for path in (files.key, files.uri):
        if signer_in(path, files.role).public_key in gone:
            files.drop(path)
            return


def _replace_next(files: KeyFiles, uri: str, store: LedgerStore, origin: str, old: Signer) -> None:
    waiting = [path for path in (files.next_key, files.next_uri) if path.exists()]
    if waiting == [files.next_uri] and files.read_uri(files.next_uri) == uri:
        return
    for path in waiting:
        draft = rotation_draft(origin, old, signer_in(path, files.role))
        if store.get(entry_key(origin, ROTATION, *draft.identity)) is not None:
            raise ConfigurationError(
                f"A rotation to the key in {path} is on record already.",
                remedy="Run the command without --new-uri to finish it, then rotate again.",
            )
    rotation_draft(origin, old, open_kms_signer(uri, files.role))  # refused before it is kept
    files.drop_next()
    files.write_next_uri(uri)


def _next(files: KeyFiles) -> Signer:
    if files.next_uri.exists():
        return signer_in(files.next_uri, files.role)
    if files.uri.exists():
        raise ConfigurationError(
            f"The {files.role} key is in a KMS, and this command makes keys in files only.",
            remedy="Make the new key in the KMS, and name it with --new-uri.",
        )
    make_key(files.next_key, passphrase())
    return signer_in(files.next_key, files.role)
