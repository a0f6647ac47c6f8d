"""The trust root: which log is meant, and whose keys count.

It reaches a verifier by another way than the ledger does; a ledger or bundle never brings its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Vkey
from airflow_mlgov.ledger.cosignature import WitnessKey
from airflow_mlgov.ledger.signatures import keyid
from airflow_mlgov.records.canonical import canonical_bytes, parse_json
from airflow_mlgov.records.kinds import KeyRole

VERSION = 1
MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class TrustRoot:
    """What a verifier is told from outside.

    Attributes:
        origin: The log's name, as its checkpoints and entries carry it.
        log_keys: Keys that sign checkpoints and the genesis entry.
        attestor_keys: Keys of the api-server, which knows who is signed in.
        writer_keys: Keys of tasks and the command line.
        witnesses: Keys of witnesses that cosign checkpoints, as they publish them.
    """

    origin: str
    log_keys: tuple[Vkey, ...]
    attestor_keys: tuple[Vkey, ...] = ()
    writer_keys: tuple[Vkey, ...] = ()
    witnesses: tuple[WitnessKey, ...] = ()

    def __post_init__(self) -> None:
        every: list[Vkey | WitnessKey] = [*self.log_keys, *self.attestor_keys, *self.writer_keys]
        every += self.witnesses
        if len({key.public_key for key in every}) != len(every):
            raise LedgerIntegrityError(
                "A key stands twice in the trust file: each key has one role."
            )
        if len({(key.name, key.key_hash) for key in every}) != len(every):
            raise LedgerIntegrityError("Two keys in the trust file have the same name and hash.")
        if not self.log_keys:
            raise LedgerIntegrityError(
                "The trust file holds no log key, so no checkpoint can be checked."
            )

    def keys(self, role: KeyRole) -> tuple[Vkey, ...]:
        """Return the keys that sign entries in a role."""
        by_role = {
            KeyRole.LOG: self.log_keys,
            KeyRole.ATTESTOR: self.attestor_keys,
            KeyRole.WRITER: self.writer_keys,
        }
        return by_role[role]

    @cached_property
    def signers(self) -> dict[str, tuple[KeyRole, bytes]]:
        """Role and public key by the keyid that envelopes carry."""
        return {
            keyid(key.public_key): (role, key.public_key)
            for role in KeyRole
            for key in self.keys(role)
        }

    def with_keys(self, role: KeyRole, keys: Iterable[Vkey]) -> TrustRoot:
        """Return this trust root with those keys added to a role that it does not have yet."""
        have = self.keys(role)
        return self._with(role, have + tuple(key for key in keys if key not in have))

    def after_rotation(self, role: KeyRole, old: Vkey, new: Vkey) -> TrustRoot:
        """Return this trust root with a key of a role in place of another one."""
        kept = [key for key in self.keys(role) if key not in (old, new)]
        return self._with(role, (*kept, new))

    def _with(self, role: KeyRole, keys: tuple[Vkey, ...]) -> TrustRoot:
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return TrustRoot(**{**values, f"{role.value}_keys": keys})

    def with_witnesses(self, keys: Iterable[WitnessKey]) -> TrustRoot:
        """Return this trust root with those witnesses added that it does not have yet."""
        added = tuple(key for key in keys if key not in self.witnesses)
        return replace(self, witnesses=self.witnesses + added)

    def as_bytes(self) -> bytes:
        """Return the file's bytes: indented JSON, version 1 of its format."""
        lists = {name: [str(key) for key in getattr(self, name)] for name in _LISTS}
        value = {"version": VERSION, "origin": self.origin, **lists}
        canonical_bytes(value)  # nothing gets in that could not be signed
        return json.dumps(value, indent=2).encode("ascii") + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> TrustRoot:
        """Return the trust root that a file's bytes stand for.

        Raises:
            LedgerIntegrityError: Not such a file, another version, a malformed or repeated key.
        """
        if len(data) > MAX_BYTES:
            raise LedgerIntegrityError(
                f"A trust file of {len(data)} bytes is longer than {MAX_BYTES}."
            )
        value = parse_json(data)
        if not isinstance(value, dict) or value.keys() != {"version", "origin", *_LISTS}:
            raise LedgerIntegrityError(
                f"A trust file holds version, origin, {', '.join(_LISTS)}, nothing else."
            )
        if value["version"] != VERSION or isinstance(value["version"], bool):
            raise LedgerIntegrityError(
                f"Trust file version {value['version']!r} is not known; this code reads 1."
            )
        if not isinstance(value["origin"], str):
            raise LedgerIntegrityError("The trust file's origin is not text.")
        lists = {name: _keys_of(name, value[name], parse) for name, parse in _LISTS.items()}
        return cls(value["origin"], **lists)


_LISTS: Mapping[str, Callable[[str], Any]] = {
    "log_keys": Vkey.parse,
    "attestor_keys": Vkey.parse,
    "writer_keys": Vkey.parse,
    "witnesses": WitnessKey.parse,
}


def _keys_of(name: str, value: Any, parse: Callable[[str], Any]) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise LedgerIntegrityError(f"{name} in the trust file is not a list of keys.")
    return tuple(parse(item) for item in value)
