"""Which keys this process holds, and whose keys it believes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ports import Signer
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.wiring.settings import optional_setting, setting


def open_keys() -> tuple[Mapping[KeyRole, Signer], TrustRoot | None]:
    """Return the signers in ``keys_dir``, and the trust root in ``trust_path`` if that is set.

    Without a trust file a process makes the keys that it misses and believes its own: for one
    machine and one user. With one, no key is made, and each process holds those that it was given.
    ``keys_passphrase`` opens encrypted key files, and encrypts those that are made.

    Raises:
        ConfigurationError: A setting is missing or wrong, a file cannot be read, or a key is not in
            the trust file; a retry does not help.
        LedgerIntegrityError: The trust file is malformed; a retry does not help.
    """
    folder, file = Path(setting("keys_dir")), optional_setting("trust_path")
    given = optional_setting("keys_passphrase")
    passphrase = None if given is None else given.encode("utf-8")
    if file is None:
        return open_signers(folder, passphrase=passphrase), None
    trust = TrustRoot.parse(_read(Path(file)))
    signers = open_signers(folder, passphrase=passphrase, create=False)
    for role, signer in signers.items():
        if signer.public_key not in {key.public_key for key in trust.keys(role)}:
            raise ConfigurationError(
                f"The {role} key in {folder} is not in the trust file {file}: what it signs would "
                "count for nothing.",
                remedy="Take the key away, or put it into the trust file.",
            )
    return signers, trust


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The trust file {file} cannot be read: {error.strerror or error}.",
            remedy="Check [mlgov] trust_path; `airflow mlgov ledger trust` writes such a file.",
        ) from error
