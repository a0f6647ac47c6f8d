"""Which keys this process holds, and whose keys it believes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.ledger.checkpoint import Vkey
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ports import Signer
from airflow_mlgov.signers.file import open_signer, open_signers
from airflow_mlgov.signers.key_files import KeyFiles
from airflow_mlgov.signers.kms import open_kms_signer, refuse_airflow
from airflow_mlgov.wiring.settings import optional_setting, setting

_ASKS_AIRFLOW = re.compile(r"\bairflow\s+(connections|variables)\b")


class HeldKeys(NamedTuple):
    """The keys of a process.

    Attributes:
        signers: Those it signs with.
        trust: The trust root that it was given; None if it believes its own keys only.
        retired: Those that were in ``keys_dir`` before a rotation, by role.
    """

    signers: Mapping[KeyRole, Signer]
    trust: TrustRoot | None
    retired: Mapping[KeyRole, tuple[Vkey, ...]]


def open_keys() -> HeldKeys:
    """Return the signers in ``keys_dir``, and the trust root in ``trust_path`` if that is set.

    Without a trust file a process makes the keys that it misses and believes its own: for one
    machine and one user. With one, no key is made, and each process holds those that it was given.
    ``keys_passphrase`` opens encrypted key files, and encrypts those that are made.

    Raises:
        ConfigurationError: A setting is missing or wrong, a file cannot be read, a KMS refuses, or
            a key is not in the trust file; a retry does not help.
        LedgerIntegrityError: The trust file is malformed; a retry does not help.
        LedgerUnavailableError: A KMS cannot be reached; a retry may help.
    """
    folder, file = keys_folder(), optional_setting("trust_path")
    trust = None if file is None else TrustRoot.parse(_read(Path(file)))
    remote = [role for role in KeyRole if KeyFiles(folder, role).uri.exists()]
    for role in remote:
        _refuse_both(KeyFiles(folder, role))
    local = [role for role in KeyRole if role not in remote]
    given = passphrase()
    signers: dict[KeyRole, Signer] = {
        **open_signers(folder, passphrase=given, create=trust is None, roles=local),
        **{role: signer_in(KeyFiles(folder, role).uri, role) for role in remote},
    }
    retired = {role: KeyFiles(folder, role).read_retired() for role in KeyRole}
    if trust is not None:
        _check_trusted(trust, signers, retired)
    return HeldKeys(signers, trust, retired)


def keys_folder() -> Path:
    """Return ``keys_dir``, after looking where it and the passphrase come from.

    Raises:
        ConfigurationError: It is missing, or one of them points to an Airflow connection or
            variable; a retry does not help.
    """
    folder = setting("keys_dir")
    refuse_airflow(folder, "[mlgov] keys_dir")
    if _ASKS_AIRFLOW.search(optional_setting("keys_passphrase_cmd") or ""):
        refuse_airflow("airflow:", "[mlgov] keys_passphrase_cmd")  # before Airflow runs it
    for name in ("keys_passphrase_secret", "keys_passphrase"):
        refuse_airflow(optional_setting(name) or "", f"[mlgov] {name}")
    return Path(folder)


def passphrase() -> bytes | None:
    """Return what opens encrypted key files; None if nothing is set."""
    given = optional_setting("keys_passphrase")
    return None if given is None else given.encode("utf-8")


def signer_in(path: Path, role: KeyRole) -> Signer:
    """Return the signer of a role from one file: a key, or the URI of one.

    Raises:
        ConfigurationError: The file cannot be used, or a KMS refuses; a retry does not help.
        LedgerUnavailableError: A KMS cannot be reached; a retry may help.
    """
    if ".key" in path.suffixes:
        return open_signer(path, role, passphrase=passphrase())
    uri = KeyFiles(path.parent, role).read_uri(path)
    return _remote(uri, role, optional_setting("keys_passphrase"), os.getpid())


# Once a process: a fork does not go on with its parent's connection.
@lru_cache(maxsize=16)
def _remote(uri: str, role: KeyRole, pin: str | None, _pid: int) -> Signer:
    return open_kms_signer(uri, role, pin=pin)


def _refuse_both(files: KeyFiles) -> None:
    if files.key.exists():
        raise ConfigurationError(
            f"{files.folder} holds both {files.key.name} and {files.uri.name}: a role has one key.",
            remedy="Take one away. If a rotation was interrupted, run `airflow mlgov keys rotate "
            f"--role {files.role}` again.",
        )


def _check_trusted(
    trust: TrustRoot,
    signers: Mapping[KeyRole, Signer],
    retired: Mapping[KeyRole, tuple[Vkey, ...]],
) -> None:
    for role, signer in signers.items():
        # A trust file from before a rotation names the key that led to this one; the log says how.
        own = {signer.public_key, *(key.public_key for key in retired[role])}
        if not own & {key.public_key for key in trust.keys(role)}:
            raise ConfigurationError(
                f"The {role} key in {setting('keys_dir')} is not in the trust file "
                f"{setting('trust_path')}: what it signs would count for nothing.",
                remedy="Take the key away, or put it into the trust file.",
            )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The trust file {file} cannot be read: {error.strerror or error}.",
            remedy="Check [mlgov] trust_path; `airflow mlgov ledger trust` writes such a file.",
        ) from error
