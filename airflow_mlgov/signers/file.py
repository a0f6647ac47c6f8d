"""Ed25519 keys in PEM files that only their owner can read."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.durable_file import sync_folder

MAX_KEY_BYTES = 64 * 1024
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileSigner:
    """A `Signer` whose private key was read from a file.

    Attributes:
        role: What the key is for.
        name: Its name in C2SP note form.
        public_key: 32 bytes.
    """

    role: KeyRole
    name: str
    public_key: bytes
    _private_key: Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of a message."""
        return self._private_key.sign(message)


def open_signers(
    keys_dir: Path,
    *,
    passphrase: bytes | None = None,
    create: bool = True,
    roles: Iterable[KeyRole] = KeyRole,
) -> dict[KeyRole, FileSigner]:
    """Return the signers of all roles, from ``<keys_dir>/<role>.key``; missing keys are made.

    Args:
        keys_dir: Folder of the keys; made with mode 0700 if it is missing.
        passphrase: Opens encrypted files, and encrypts those that are made.
        create: Whether to make keys that are not there; without it, missing roles are left out.
        roles: Whose keys are in files.

    Raises:
        ConfigurationError: A file cannot be read, others can read it, or it is not an Ed25519 key;
            a retry does
            not help.
    """
    paths = {role: keys_dir / f"{role.value}.key" for role in roles}
    try:
        made = [role.value for role, path in paths.items() if create and make_key(path, passphrase)]
    except OSError as error:
        raise _unusable(keys_dir, error) from error
    if made:
        _log.warning(
            "Made new keys (%s) in %s, for development: in production make them elsewhere, one "
            "place a role.",
            ", ".join(made),
            keys_dir,
        )
    return {
        role: open_signer(path, role, passphrase=passphrase)
        for role, path in paths.items()
        if path.exists()
    }


def open_signer(path: Path, role: KeyRole, *, passphrase: bytes | None = None) -> FileSigner:
    """Return the signer of a role from one key file.

    Args:
        path: PEM file with an Ed25519 private key that nobody but its owner can read.
        role: What the key is for.
        passphrase: Opens an encrypted file.

    Raises:
        ConfigurationError: The file cannot be read, others can read it, or it is not an Ed25519
            key; a retry does
            not help.
    """
    try:
        pem = _read(path)
    except OSError as error:
        raise _unusable(path, error) from error
    key = _parse(pem, path, passphrase)
    return FileSigner(role, f"airflow-mlgov-{role.value}", key.public_key().public_bytes_raw(), key)


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"Keys in {path} cannot be used: {error.strerror or error}.",
        remedy="Check [mlgov] keys_dir and who may read it.",
    )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & 0o077:
            raise ConfigurationError(
                f"Others than its owner can read or change the key {path} (mode "
                f"{mode & 0o777:04o}).",
                remedy=f"If nobody did, run `chmod 600 {path}`; else replace the key.",
            )
        return file.read(MAX_KEY_BYTES)


def _parse(pem: bytes, path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    is_encrypted = b"ENCRYPTED" in pem
    if is_encrypted and passphrase is None:
        raise ConfigurationError(
            f"The key {path} is encrypted and no passphrase was given.",
            remedy="Set [mlgov] keys_passphrase, keys_passphrase_cmd or keys_passphrase_secret.",
        )
    try:
        key = serialization.load_pem_private_key(pem, passphrase if is_encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        problem = (
            "cannot be opened with this passphrase"
            if is_encrypted
            else "is not a private key in PEM form"
        )
        raise ConfigurationError(f"The key {path} {problem}.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"The key {path} is not an Ed25519 key.")
    return key


def make_key(path: Path, passphrase: bytes | None) -> bool:
    """Make an Ed25519 key in a file that is not there yet, durably; return whether it was made.

    Raises:
        OSError: The file cannot be written.
    """
    if path.exists():
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    encryption = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write(draft, pem)
        # A link, unlike a rename, never replaces: of several processes one wins, and all read its
        # key.
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
