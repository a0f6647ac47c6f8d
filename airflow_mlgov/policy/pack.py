"""A policy pack: who must approve what, on which evidence, for how long.

One YAML file, immutable once used, known by the digest of its bytes. It lives outside DAG code, so
that the author of a DAG cannot choose the approvers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

from airflow_mlgov.policy.platform_controls import PlatformRules
from airflow_mlgov.policy.retention import STANDARD_YEARS
from airflow_mlgov.policy.tiers import STANDARD_TIERS, TierRule
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Assurance, Severity
from airflow_mlgov.records.kinds import Retention
from airflow_mlgov.records.people import Person


@dataclass(frozen=True, slots=True)
class Seat:
    """A chair that must be filled.

    Attributes:
        role: ``model_owner``, ``independent_validator`` ...
        count: How many different people must sit on it, at least 1.
        users: Ids or names of those who may.
        veto: Whether one rejection by a holder ends the request; without it a rejection takes the
            holder's own place out, and the request ends when too few places are left.
        roles: Roles of the auth manager whose holders may, too; ``users`` may then be empty.
    """

    role: str
    count: int
    users: tuple[str, ...]
    veto: bool = True
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Absence:
    """Days on which somebody fills no seat, and who does so instead.

    Attributes:
        user: Id or name of who is away; on some seat.
        first_day: First day away, in UTC.
        last_day: Last day away, included.
        deputy: Id or name of who votes in that user's place meanwhile; None for nobody.
        reason: Why, for the record.
    """

    user: str
    first_day: date
    last_day: date
    deputy: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Segregation:
    """Who may not approve, whatever seat lists say.

    Attributes:
        requester: The person who triggered the run that asks.
        developers: The developers of the model, and whoever triggered the training of this version.
    """

    requester: bool
    developers: bool


@dataclass(frozen=True, slots=True)
class Reminders:
    """When a gate that still waits tells its notifiers again.

    Attributes:
        after_days: Days after the request, rising.
        escalate_after_days: Days after which it tells its escalation notifiers too; None for never.
        escalate_to: Ids or names of those whom these are to tell.
    """

    after_days: tuple[int, ...]
    escalate_after_days: int | None
    escalate_to: tuple[str, ...] = ()

    def moments(self, asked_at: datetime) -> tuple[datetime, ...]:
        """Return when a gate that asked at a moment speaks again, in order."""
        last = () if self.escalate_after_days is None else (self.escalate_after_days,)
        return tuple(asked_at + timedelta(days=days) for days in sorted({*self.after_days, *last}))


@dataclass(frozen=True, slots=True)
class FindingRules:
    """Who settles findings, besides nobody who built the version.

    Attributes:
        close: Ids or names of those who may close one that is remedied.
        accept: Ids or names of those who may accept its risk for a time.
        accept_max_days: For how long at most.
    """

    close: tuple[str, ...]
    accept: tuple[str, ...]
    accept_max_days: int


@dataclass(frozen=True, slots=True)
class BreakGlassRules:
    """Who may use a version without its approval in an emergency, and who looks at it afterwards.

    Attributes:
        users: Ids or names of those who may.
        max_hours: For how long at most.
        quorum: How many holders of seats must confirm it, besides who did it.
        confirm_within_days: Days until then.
    """

    users: tuple[str, ...]
    max_hours: int
    quorum: int
    confirm_within_days: int


@dataclass(frozen=True, slots=True)
class ConditionRules:
    """To what approvers may bind an approval.

    Attributes:
        end_date: Whether to a last day.
        max_rows_per_run: Whether to a number of rows that one run may score.
        segments: Columns whose values they may limit, each with the values to choose from.
        data_validation: Whether to data that were validated in the same run.
    """

    end_date: bool
    max_rows_per_run: bool
    segments: Mapping[str, tuple[str, ...]]
    data_validation: bool


@dataclass(frozen=True, slots=True)
class ExitRules:
    """How alike a version that is trained again elsewhere must score, row by row.

    Attributes:
        max_difference: Most that two probabilities of a row may differ.
        mean_difference: Most that they may differ in the mean over all rows.
        min_rank_agreement: Least correlation of ranks (Spearman).
        max_psi: Largest population stability index between the two versions' scores.
    """

    max_difference: float
    mean_difference: float
    min_rank_agreement: float
    max_psi: float


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """One line of a validation plan.

    Attributes:
        test: Id of a test in `airflow_mlgov.validation` (``discrimination.auc``).
        thresholds: Bounds by name as that test documents them (``warn_below``, ``fail_below``).
        severity: Severity of the finding that a failure opens.
        due_days: Days until that finding is due.
        options: Whatever else the test takes (``bins``, ``grouping``).
    """

    test: str
    thresholds: dict[str, float]
    severity: Severity
    due_days: int
    options: dict[str, Any]


@dataclass(frozen=True)
class PolicyPack:
    """The rules for a group of models.

    Attributes:
        id: Name that inventory entries refer to.
        title: For people.
        digest: SHA-256 of the file's bytes: the pack's identity.
        source: Those bytes.
        file: Where it was read from.
        least_assurance: Votes below it are not counted.
        seats: Who must approve.
        segregation: Who may not.
        required_evidence: Kinds of entries without which approval may not be asked for.
        comment_min_length: Characters that a vote's comment must have.
        valid_days: How long an approval lasts.
        plans: Validation plan by model class.
        existing_approvals: ``keep`` or ``end``: whether approvals under earlier packs still hold
            under this one.
        supersedes: Earlier packs whose approvals hold as they were counted under those packs.
        tiers: Rule that computes a model's tier from its materiality and complexity.
        retention: Years for which names and texts are kept at least, by class of record.
        identities: Groups of ids and names that mean one person each.
        absences: Who is away, when, and who votes meanwhile.
        decide_within_days: Days after which a request that is not decided is denied; None for
            never.
        reminders: When a gate that waits speaks again; None for never.
        findings: Who settles findings; None if those on the seats close them and nobody may accept.
        break_glass: The rules of emergencies; None if nobody may break glass.
        conditions: To what approvers may bind an approval; None for nothing.
        platforms: What holds for jobs that run elsewhere; None for nothing.
        exit: What exit rehearsals are held to; None if there can be none.
    """

    id: str
    title: str
    digest: Digest
    source: bytes
    file: str
    least_assurance: Assurance
    seats: tuple[Seat, ...]
    segregation: Segregation
    required_evidence: tuple[str, ...]
    comment_min_length: int
    valid_days: int
    plans: dict[str, tuple[PlannedTest, ...]]
    existing_approvals: str
    supersedes: tuple[Digest, ...] = ()
    tiers: TierRule = STANDARD_TIERS
    retention: Mapping[Retention, int] = field(default_factory=lambda: STANDARD_YEARS)
    identities: tuple[tuple[str, ...], ...] = ()
    absences: tuple[Absence, ...] = ()
    decide_within_days: int | None = None
    reminders: Reminders | None = None
    findings: FindingRules | None = None
    break_glass: BreakGlassRules | None = None
    conditions: ConditionRules | None = None
    platforms: PlatformRules | None = None
    exit: ExitRules | None = None

    @property
    def users(self) -> tuple[str, ...]:
        """Everybody who may ever vote under some name, deputies last, each name once."""
        listed = [user for seat in self.seats for user in seat.users]
        listed += [absence.deputy for absence in self.absences if absence.deputy]
        return _each_once(name for user in listed for name in (user, *self._also(user)))

    def canonical(self, name: str) -> str:
        """Return the one name that stands for a person, whichever of the aliases is given."""
        also = self._also(name)
        return (also[0] if also else name).casefold()

    def names(self, *people: Person | str | None) -> frozenset[str]:
        """Return the canonical names of people; a person has one for the id and one for the name.

        Args:
            people: Persons, or ids or names; None for nobody.
        """
        found: set[str] = set()
        for person in people:
            if isinstance(person, Person):
                found |= {self.canonical(person.id), self.canonical(person.name)}
            elif person is not None:
                found.add(self.canonical(person))
        return frozenset(found)

    def absence_of(self, user: str, on: date) -> Absence | None:
        """Return the absence of a user on a day, or None."""
        for absence in self._absences.get(self.canonical(user), ()):
            if absence.first_day <= on <= absence.last_day:
                return absence
        return None

    def decide_by(self, asked_at: datetime) -> datetime | None:
        """Return when a request asked at a moment is denied if it is not decided; None for never.

        A moment past the calendar's end is never, too.
        """
        if self.decide_within_days is None:
            return None
        try:
            return asked_at + timedelta(days=self.decide_within_days)
        except OverflowError:
            return None

    def canonical_seats(self, seats: Iterable[Seat] | None = None) -> tuple[Seat, ...]:
        """Return seats with each person under the one name that stands for them.

        Args:
            seats: Seats; None for those that must approve.
        """
        return tuple(
            replace(seat, users=_each_once(map(self.canonical, seat.users)))
            for seat in (self.seats if seats is None else seats)
        )

    @property
    def seated(self) -> frozenset[str]:
        """Canonical names of everybody whom a seat lists."""
        return frozenset(user for seat in self.canonical_seats() for user in seat.users)

    def _also(self, name: str) -> tuple[str, ...]:
        return self._groups.get(name.casefold(), ())

    @cached_property
    def _groups(self) -> dict[str, tuple[str, ...]]:
        groups: dict[str, tuple[str, ...]] = {}
        for group in self.identities:
            for alias in group:
                groups.setdefault(alias.casefold(), group)
        return groups

    @cached_property
    def _absences(self) -> dict[str, list[Absence]]:
        absences: dict[str, list[Absence]] = {}
        for absence in self.absences:
            absences.setdefault(self.canonical(absence.user), []).append(absence)
        return absences


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
