"""What somebody wants on record, the receipt for it, and whether it stands there already."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from airflow_mlgov.errors import LedgerConflictError
from airflow_mlgov.ledger.entry import Entry, entry_key
from airflow_mlgov.ledger.view import SealedEntry
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Disclosure, Person
from airflow_mlgov.records.source import Source


@dataclass(frozen=True)
class EntryDraft:
    """What somebody wants on record.

    Attributes:
        kind: A name in `airflow_mlgov.records.kinds.KINDS`.
        model: Inventory id; empty if it is about no model.
        version: Manifest digest; None if it is about no version.
        body: JSON values without floats and without personal data; digests as ``sha256:<hex>``.
        identity: What makes it this entry and no other, without the try number: a retry finds its
            first try.
        people: People by field; the leaf holds salted commitments to them.
        texts: Free texts by field; the leaf holds salted commitments to them.
        source: Which task writes.
    """

    kind: str
    model: str
    version: Digest | None
    body: dict[str, Any]
    identity: tuple[str, ...]
    people: Mapping[str, Person] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    source: Source = field(default_factory=Source)


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry is durably kept, and not yet under a signed checkpoint.

    Attributes:
        key: Idempotency key.
        leaf_hash: RFC 6962 hash of the entry's exact bytes, 64 hexadecimal characters.
    """

    key: str
    leaf_hash: str


@dataclass(frozen=True, slots=True)
class SealedReceipt:
    """An entry is under a signed checkpoint.

    Attributes:
        key: Idempotency key.
        index: Position in the ledger.
        tree_size: Entries under the checkpoint.
        root_hash: Root of their tree, 64 hexadecimal characters.
    """

    key: str
    index: int
    tree_size: int
    root_hash: str


def disclosures_of(draft: EntryDraft) -> dict[str, Disclosure]:
    """Return freshly salted disclosures of a draft's people and texts, as stores keep them."""
    people = {f"people.{name}": person.as_json() for name, person in draft.people.items()}
    texts = {f"texts.{name}": text for name, text in draft.texts.items()}
    # What people type arrives in either normalisation form; signed text has one.
    return {name: Disclosure.of(_normalised(value)) for name, value in {**people, **texts}.items()}


def commitments_of(disclosures: Mapping[str, Disclosure], group: str) -> dict[str, str]:
    """Return the commitments that a leaf holds for ``people`` or ``texts``, by field."""
    return {
        name.removeprefix(f"{group}."): disclosure.commitment
        for name, disclosure in disclosures.items()
        if name.startswith(f"{group}.")
    }


def entry_of(
    draft: EntryDraft, origin: str, disclosures: Mapping[str, Disclosure], at: datetime
) -> Entry:
    """Return the entry that puts a draft on record.

    Args:
        draft: What somebody wants there.
        origin: Name of the log.
        disclosures: From `disclosures_of`.
        at: When it is written.
    """
    return Entry(
        origin=origin,
        kind=draft.kind,
        key=entry_key(origin, draft.kind, *draft.identity),
        at=at,
        model=draft.model,
        version=draft.version,
        body=draft.body,
        people=commitments_of(disclosures, "people"),
        texts=commitments_of(disclosures, "texts"),
        source=draft.source,
    )


def differences(
    kept: SealedEntry, offered: Entry, role: KeyRole, disclosures: Mapping[str, Disclosure]
) -> list[str]:
    """Return the names of what differs between an entry on record and one offered under its key.

    Time, try number and salts may differ; people and texts are compared by what was disclosed of
    them, and count as the same once they were erased.

    Args:
        kept: The entry on record.
        offered: The other one.
        role: Whose key signs the other one.
        disclosures: What opens the other one's commitments.

    Raises:
        LedgerIntegrityError: What is disclosed of the entry on record is not what it committed to.
    """
    pairs = {
        "model": (kept.model, offered.model),
        "version": (kept.version, offered.version),
        "signer": (kept.signed_by, role),
        "source": (replace(kept.source, try_number=0), replace(offered.source, try_number=0)),
        "people": (set(kept.people), set(offered.people)),
        "texts": (set(kept.texts), set(offered.texts)),
    }
    differing = [name for name, (left, right) in pairs.items() if left != right]
    names = sorted(kept.body.keys() | offered.body.keys())
    differing += [
        f"body.{name}" for name in names if _part(kept.body, name) != _part(offered.body, name)
    ]
    return differing + _opened_differences(kept, disclosures)


def refusal_of(offered: Entry, role: KeyRole, differing: Sequence[str]) -> EntryDraft:
    """Return the draft that puts on record what was offered under a key that holds other content.

    Args:
        offered: What was offered.
        role: Whose key would have signed it.
        differing: From `differences`.
    """
    source = offered.source
    task = (source.dag_id, source.run_id, source.task_id, str(source.map_index))
    subject = (offered.model, str(offered.version), role.value)
    return EntryDraft(
        kind="append.refused",
        model=offered.model,
        version=offered.version,
        body={"key": offered.key, "kind": offered.kind, "differs": list(differing)},
        identity=(offered.key, *task, *subject, *differing),
        source=source,
    )


def conflict(kept: SealedEntry, differing: Sequence[str]) -> LedgerConflictError:
    """Return the error for a draft that differs from what is on record under its identity."""
    return LedgerConflictError(
        f"The ledger already holds another {kept.kind} entry with this identity "
        f"(written {kept.at:%Y-%m-%d %H:%M:%S} UTC); it differs in {', '.join(differing)}.",
        remedy="What is on record stays. If both are true, they need different identities.",
    )


def _part(body: Mapping[str, Any], name: str) -> bytes | None:
    # As bytes: in Python true equals 1, and a tuple differs from the list that it is written as.
    return canonical_bytes(body[name]) if name in body else None


def _opened_differences(kept: SealedEntry, offered: Mapping[str, Disclosure]) -> list[str]:
    opened = kept.disclose(kept.key)
    commitments = {f"people.{name}": value for name, value in kept.people.items()}
    commitments |= {f"texts.{name}": value for name, value in kept.texts.items()}
    return [
        name
        for name in sorted(commitments.keys() & opened.keys() & offered.keys())
        if opened[name].check(commitments[name]) != offered[name].value
    ]


def _normalised(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _normalised(part) for name, part in value.items()}
    return unicodedata.normalize("NFC", value)
