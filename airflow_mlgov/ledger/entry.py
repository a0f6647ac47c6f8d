"""A ledger entry: what is signed, and the strict way back from bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.dsse import Cosigner, Envelope, open_envelope, seal_envelope
from airflow_mlgov.records.canonical import canonical_bytes, parse_canonical
from airflow_mlgov.records.clock import from_text, to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KINDS, ROTATION
from airflow_mlgov.records.shapes import MOMENT, misfit
from airflow_mlgov.records.source import Source

VERSION = 1
MAX_LEAF_BYTES = 16 * 1024
"""Bytes of an envelope at most; larger things go by digest. C2SP tlog-tiles allows 65,535."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9._:@/+-]{1,256}")
_COMMITMENT = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"sha256:[0-9a-f]{64}")
_FIELDS = frozenset(
    ["v", "origin", "kind", "key", "at", "model", "version", "body", "people", "texts", "source"]
)
_SOURCE_FIELDS = frozenset(["dag_id", "run_id", "task_id", "map_index", "try_number"])


@dataclass(frozen=True)
class Entry:
    """One entry, payload version 1.

    Attributes:
        origin: The log it was written for.
        kind: A name in `airflow_mlgov.records.kinds.KINDS`.
        key: Idempotency key, ``sha256:<hex>``.
        at: When, by the writer's clock: a claim; order is the index.
        model: Inventory id; empty if it is about no model.
        version: Manifest digest; None if it is about no version.
        body: JSON values without floats.
        people: Commitments to people, 64 hexadecimal characters, by field.
        texts: Commitments to free texts, by field.
        source: Which task wrote it.
    """

    origin: str
    kind: str
    key: str
    at: datetime
    model: str
    version: Digest | None
    body: dict[str, Any]
    people: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    source: Source = field(default_factory=Source)

    def encode(self) -> bytes:
        """Return the payload's canonical JSON bytes.

        Raises:
            LedgerIntegrityError: Something in it may not stand in an entry; a retry does not help.
        """
        value = {
            "v": VERSION,
            "origin": self.origin,
            "kind": self.kind,
            "key": self.key,
            "at": to_text(self.at),
            "model": self.model,
            "version": None if self.version is None else str(self.version),
            "body": self.body,
            "people": dict(self.people),
            "texts": dict(self.texts),
            "source": self.source.as_json(),
        }
        _check(value)
        return canonical_bytes(value)

    @classmethod
    def decode(cls, payload: bytes) -> Entry:
        """Return the entry that a payload stands for.

        Raises:
            LedgerIntegrityError: Anything but what `encode` writes; a retry does not help.
        """
        value = parse_canonical(payload)
        _check(value)
        return cls(
            origin=value["origin"],
            kind=value["kind"],
            key=value["key"],
            at=from_text(value["at"]),
            model=value["model"],
            version=None if value["version"] is None else Digest.parse(value["version"]),
            body=value["body"],
            people=value["people"],
            texts=value["texts"],
            source=Source.from_json(value["source"]),
        )


def entry_key(origin: str, kind: str, *identity: str) -> str:
    """Return the idempotency key of what is identified so: SHA-256 of canonical JSON."""
    return str(Digest.of(canonical_bytes([origin, kind, *identity])))


def encode_leaf(
    entry: Entry,
    public_key: bytes,
    sign: Callable[[bytes], bytes],
    *,
    cosigner: Cosigner | None = None,
) -> bytes:
    """Return the leaf: the exact bytes of the signed envelope over an entry.

    Args:
        entry: What is signed.
        public_key: The public half of the key that `sign` uses.
        sign: Returns the signature of a message.
        cosigner: The new key of a role, which signs its rotation too; no other entry has one.

    Raises:
        LedgerIntegrityError: More than 16 KiB, or something in it may not stand in an entry; a
            retry does not help.
    """
    leaf = seal_envelope(entry.encode(), public_key, sign, cosigner=cosigner)
    if len(leaf) > MAX_LEAF_BYTES:
        raise LedgerIntegrityError(
            f"A {entry.kind} entry of {len(leaf)} bytes is longer than {MAX_LEAF_BYTES}.",
            remedy="Keep the document as evidence and put its digest into the entry.",
        )
    return leaf


def decode_leaf(leaf: bytes) -> tuple[Entry, Envelope]:
    """Return the entry in a leaf and its envelope; the signature is not checked yet.

    Raises:
        LedgerIntegrityError: Not a leaf that `encode_leaf` could have written; a retry does not
            help.
    """
    if len(leaf) > MAX_LEAF_BYTES:
        raise LedgerIntegrityError(
            f"An entry of {len(leaf)} bytes is longer than {MAX_LEAF_BYTES}."
        )
    envelope = open_envelope(leaf)
    entry = Entry.decode(envelope.payload)
    if (envelope.cosigned is not None) != (entry.kind == ROTATION):
        raise LedgerIntegrityError(
            f"A {ROTATION} entry is signed by two keys, every other by exactly one."
        )
    return entry, envelope


def is_identifier(value: Any) -> bool:
    """Return whether this may stand where an entry names a model or a kind."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def _check(value: Any) -> None:
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise LedgerIntegrityError(f"An entry holds {', '.join(sorted(_FIELDS))}, nothing else.")
    if value["v"] != VERSION or isinstance(value["v"], bool):
        raise LedgerIntegrityError(
            f"Entry version {value['v']!r} is not known; this code reads {VERSION}."
        )
    _check_identifiers(value)
    if not MOMENT.fits(value["at"]):
        raise LedgerIntegrityError(f"{value['at']!r} is not {MOMENT.name}.")
    _check_body(value["kind"], value["body"])
    for name in ("people", "texts"):
        _check_commitments(name, value[name])
    _check_source(value["source"])


def _check_identifiers(value: dict[str, Any]) -> None:
    for name in ("origin", "kind"):
        _check_identifier(name, value[name])
    if value["kind"] not in KINDS:
        raise LedgerIntegrityError(
            f"{value['kind']!r} is not a kind of ledger entry that this code knows."
        )
    if value["model"] != "":
        _check_identifier("model", value["model"])
    if not isinstance(value["key"], str) or not _KEY.fullmatch(value["key"]):
        raise LedgerIntegrityError("An entry's key is not sha256:<64 hexadecimal characters>.")
    version = value["version"]
    if version is not None and not (isinstance(version, str) and _KEY.fullmatch(version)):
        raise LedgerIntegrityError("An entry's version is not sha256:<64 hexadecimal characters>.")
    if version is None and KINDS[value["kind"]].needs_version:
        raise LedgerIntegrityError(f"A {value['kind']} entry names no version of a model.")


def _check_identifier(name: str, value: Any) -> None:
    if not is_identifier(value):
        raise LedgerIntegrityError(
            f"{name} {value!r} is not an identifier.",
            remedy="Use at most 256 ASCII letters, digits and the characters . _ : @ / + -",
        )


def _check_body(kind: str, body: Any) -> None:
    if not isinstance(body, dict):
        raise LedgerIntegrityError("An entry's body is not an object.")
    for name in body:
        _check_identifier("body field", name)
    missing = KINDS[kind].required - body.keys()
    if missing:
        raise LedgerIntegrityError(f"A {kind} entry lacks {', '.join(sorted(missing))}.")
    if problem := misfit(body):
        raise LedgerIntegrityError(f"In a {kind} entry, {problem}")


def _check_commitments(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise LedgerIntegrityError(f"An entry's {name} are not an object.")
    for key, commitment in value.items():
        _check_identifier(f"{name} field", key)
        if not isinstance(commitment, str) or not _COMMITMENT.fullmatch(commitment):
            raise LedgerIntegrityError(
                f"{name}.{key} is not a commitment of 64 hexadecimal characters."
            )


def _check_source(value: Any) -> None:
    if not isinstance(value, dict) or value.keys() != _SOURCE_FIELDS:
        raise LedgerIntegrityError(
            f"An entry's source holds {', '.join(sorted(_SOURCE_FIELDS))}, nothing else."
        )
    for name in ("map_index", "try_number"):
        if not isinstance(value[name], int) or isinstance(value[name], bool):
            raise LedgerIntegrityError(f"source.{name} is not an integer.")
    if not all(isinstance(value[name], str) for name in ("dag_id", "run_id", "task_id")):
        raise LedgerIntegrityError("An entry's source does not name a task.")
    if Source.from_json(value).as_json() != value:
        raise LedgerIntegrityError("An entry's source is not percent-encoded as it should be.")
