"""Erasing a person: what opens the commitments to them goes, the commitments stay.

An ``erased`` entry announces what will be erased; once a signed checkpoint covers it, salts and
values are deleted. So whatever breaks off in between, nothing is gone that the ledger does not say
is gone. What was announced and is still there, because a run broke off or a backup was restored, is
erased by the next run, whoever that one is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError
from airflow_mlgov.records.governance import EraseReason
from airflow_mlgov.records.kinds import KINDS, KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, LedgerView, SealedEntry
from airflow_mlgov.service.ports import LedgerStore
from airflow_mlgov.service.retention import Obstacle, RetentionRules

MAX_FIELDS = 200
"""Fields that one ``erased`` entry names at most, so that it stays below 16 KiB."""


@dataclass(frozen=True, slots=True)
class OpenField:
    """A name or text that can be read.

    Attributes:
        entry: The ledger entry.
        name: ``people.<name>`` or ``texts.<name>``.
        is_announced: Whether an ``erased`` entry names it already.
        obstacle: Why it may not be erased now; None if it may.
    """

    entry: SealedEntry
    name: str
    is_announced: bool
    obstacle: Obstacle | None

    @property
    def place(self) -> tuple[int, str]:
        """The entry's index, and the field."""
        return self.entry.index, self.name


@dataclass(frozen=True, slots=True)
class Erasure:
    """What may be erased and what may not.

    Attributes:
        fields: What can be read of the person, and what was announced before, in ledger order.
        other_ids: Other ids under which somebody of the same name stands.
        unread: Entries that count for nothing, or whose disclosures are not what was committed to:
            whom they name is not known.
    """

    fields: tuple[OpenField, ...]
    other_ids: tuple[str, ...]
    unread: tuple[int, ...]

    @property
    def erasable(self) -> list[OpenField]:
        """Return what may be erased now."""
        return [field for field in self.fields if field.obstacle is None]

    @property
    def kept(self) -> list[OpenField]:
        """Return what may not be erased now."""
        return [field for field in self.fields if field.obstacle is not None]


def plan_erasure(gov: Governance, person: str) -> Erasure:
    """Return what would be erased of a person, and what may not be; nothing is changed.

    Every entry of the ledger is read, so the time grows with it.

    Args:
        gov: Governance.
        person: Id of the person, exactly as disclosures hold it.

    Raises:
        LedgerIntegrityError: The ledger does not verify; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read; a retry may help.
    """
    view = gov.ledger.view()
    rules = RetentionRules(gov, view)
    announced = _announced(view)
    unread = [violation.index for violation in view.violations]
    fields: list[OpenField] = []
    people: set[Person] = set()
    for entry in view.select():
        try:
            opened = _opened(entry)
        except LedgerIntegrityError:
            unread.append(entry.index)
            continue
        people |= {value for value in opened.values() if isinstance(value, Person)}
        named = set(_fields_of(entry, opened, person))
        for name in sorted(opened):
            is_announced = (entry.index, name) in announced
            if is_announced or name in named:
                obstacle = rules.obstacle(entry, name)
                fields.append(OpenField(entry, name, is_announced, obstacle))
    return Erasure(tuple(fields), _other_ids(people, person), tuple(sorted(unread)))


def erase_person(
    gov: Governance, store: LedgerStore, person: str, because: EraseReason
) -> tuple[Erasure, list[OpenField]]:
    """Erase what may be erased of a person, durably, with an entry that names nobody.

    The same call again does what is left to do; it changes nothing if nothing is.

    Args:
        gov: Governance; its ledger must hold the log key.
        store: Where that ledger is kept.
        person: Id of the person, exactly as disclosures hold it.
        because: Put on record as the reason.

    Returns:
        How things stood before the deletion, and the fields that were deleted.

    Raises:
        ConfigurationError: The log key is not here; a retry does not help.
        LedgerIntegrityError: The ledger does not verify; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written, or deleted bytes could not be
            cut out of the store's files yet; the same call again completes it.
    """
    if not gov.ledger.is_embedded:
        raise ConfigurationError(
            "Only who holds the log key may erase, and it is not here.",
            remedy="Run this where the sequencer runs.",
        )
    fresh = [field for field in plan_erasure(gov, person).erasable if not field.is_announced]
    for part in _parts(fresh):
        _announce(gov, part, because)
    # Read anew: what was placed on hold or approved meanwhile stays.
    now = plan_erasure(gov, person)
    erased = [field for field in now.erasable if field.is_announced]
    store.erase([(field.entry.key, field.name) for field in erased])
    return now, erased


def _parts(fields: Sequence[OpenField]) -> Iterator[list[OpenField]]:
    """Yield fields by the entries that will name them; what one entry discloses stays together.

    A text is found by its author: it must not outlive the author's name.
    """
    part: list[OpenField] = []
    for _, of_entry in groupby(fields, key=lambda field: field.entry.index):
        group = list(of_entry)
        if part and len(part) + len(group) > MAX_FIELDS:
            yield part
            part = []
        part += group
    if part:
        yield part


def _announce(gov: Governance, fields: Sequence[OpenField], because: EraseReason) -> None:
    places = [[index, name] for index, name in sorted(field.place for field in fields)]
    draft = EntryDraft(
        kind="erased",
        model="",
        version=None,
        body={"because": because.value, "count": len(places), "fields": places},
        identity=(because.value, *(f"{index} {name}" for index, name in places)),
    )
    gov.ledger.seal(gov.ledger.append(draft, role=KeyRole.LOG))


def _announced(view: LedgerView) -> set[tuple[int, str]]:
    entries = view.select("erased")
    return {(index, name) for entry in entries for index, name in entry.body["fields"]}


def _opened(entry: SealedEntry) -> dict[str, Person | str]:
    """Return what an entry discloses, by field, each checked against its commitment."""
    if not entry.people and not entry.texts:
        return {}
    disclosed = entry.disclose(entry.key)
    read = replace(entry, disclose=lambda _: disclosed)
    found: dict[str, Person | str | None] = {
        **{f"people.{name}": read.person(name) for name in entry.people},
        **{f"texts.{name}": read.text(name) for name in entry.texts},
    }
    return {name: value for name, value in found.items() if value is not None}


def _fields_of(
    entry: SealedEntry, opened: Mapping[str, Person | str], person: str
) -> Iterator[str]:
    author = f"people.{KINDS[entry.kind].author}"
    for name, value in opened.items():
        if not isinstance(value, Person) or value.id != person:
            continue
        yield name
        if name == author:
            yield from (text for text in opened if text.startswith("texts."))


def _other_ids(people: set[Person], person: str) -> tuple[str, ...]:
    names = {person, *(each.name for each in people if each.id == person)}
    same = {each.id for each in people if names & {each.id, each.name}}
    return tuple(sorted(same - {person}))
