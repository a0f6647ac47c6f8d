"""The files of one role's key, and the exchange of the key in them.

``<role>.key`` holds a key, or ``<role>.uri`` says where it is; ``<role>.key.next`` or
``<role>.uri.next`` is what a rotation puts in its place, and ``<role>.retired`` lists the public
keys that went before, a line each. Each step is durable before the next begins.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Vkey
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.durable_file import replace_file, sync_folder

MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class KeyFiles:
    """Where one role's key is kept.

    Attributes:
        folder: ``[mlgov] keys_dir``.
        role: Whose key.
    """

    folder: Path
    role: KeyRole

    @property
    def key(self) -> Path:
        """The file with the private key."""
        return self.folder / f"{self.role.value}.key"

    @property
    def uri(self) -> Path:
        """The file that says where the private key is."""
        return self.folder / f"{self.role.value}.uri"

    @property
    def next_key(self) -> Path:
        """The file with a private key that is to take the place of the present one."""
        return self.folder / f"{self.role.value}.key.next"

    @property
    def next_uri(self) -> Path:
        """The file that says where such a private key is."""
        return self.folder / f"{self.role.value}.uri.next"

    @property
    def retired(self) -> Path:
        """The file with the public keys that went before."""
        return self.folder / f"{self.role.value}.retired"

    def read_uri(self, path: Path) -> str:
        """Return the one line of a file that says where a key is.

        Raises:
            ConfigurationError: It cannot be read, others may change it, or it is not one line; a
                retry does not help.
        """
        lines = _read(path).splitlines()
        if len(lines) != 1 or not lines[0].strip():
            raise ConfigurationError(
                f"{path} does not hold one line, the URI of a key.",
                remedy="Write for example awskms:alias/mlgov-log into it.",
            )
        return lines[0].strip()

    def read_retired(self) -> tuple[Vkey, ...]:
        """Return the public keys that went before, the oldest first.

        Raises:
            ConfigurationError: The file cannot be read, others may change it, or it is malformed; a
                retry does not help.
        """
        if not self.retired.exists():
            return ()
        try:
            return tuple(Vkey.parse(line) for line in _read(self.retired).splitlines())
        except LedgerIntegrityError as error:
            raise ConfigurationError(f"{self.retired}: {error.problem}") from error

    def write_next_uri(self, uri: str) -> None:
        """Keep the URI of the key that is to come.

        Raises:
            ConfigurationError: The folder cannot be written; a retry does not help.
        """
        self._put(self.next_uri, uri + "\n")

    def drop_next(self) -> None:
        """Forget the key that was to come."""
        for path in (self.next_key, self.next_uri):
            path.unlink(missing_ok=True)
        sync_folder(self.folder)

    def retire(self, old: Vkey) -> None:
        """Keep the public half of the present key, so that what it signed is believed later.

        Raises:
            ConfigurationError: The folder cannot be written; a retry does not help.
        """
        before = self.read_retired()
        if old not in before:
            self._put(self.retired, "".join(f"{key}\n" for key in (*before, old)))

    def swap(self) -> None:
        """Put the key that was to come in the place of the present one.

        Raises:
            ConfigurationError: The folder cannot be written; a retry does not help.
        """
        is_file = self.next_key.exists()
        new, kept = (self.next_key, self.key) if is_file else (self.next_uri, self.uri)
        old = self.uri if is_file else self.key
        try:
            # Between these two both are there, and no process starts; the other way round, one
            # without a trust file would make itself a key.
            new.replace(kept)
            sync_folder(self.folder)
            self.drop(old)
        except OSError as error:
            raise _unusable(self.folder, error) from error

    def drop(self, path: Path) -> None:
        """Remove the file of a key that was rotated out."""
        path.unlink(missing_ok=True)
        sync_folder(self.folder)

    def _put(self, path: Path, text: str) -> None:
        try:
            replace_file(path, text.encode("ascii"), 0o600)
            sync_folder(path.parent)
        except (OSError, UnicodeError) as error:
            raise _unusable(path, error) from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_BYTES)
    except OSError as error:
        raise _unusable(path, error) from error
    if mode & 0o022:
        raise ConfigurationError(
            f"Others than its owner can change {path} (mode {mode & 0o777:04o}).",
            remedy=f"If nobody did, run `chmod go-w {path}`.",
        )
    return data.decode("utf-8", "replace")


def _unusable(path: Path, error: OSError | UnicodeError) -> ConfigurationError:
    reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
    return ConfigurationError(
        f"{path} cannot be used: {reason}.", remedy="Check [mlgov] keys_dir and who may write it."
    )
