"""What is wrong with a policy pack beyond what its schema can say: rules that contradict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TypeAlias

from airflow_mlgov.policy.pack import Absence, PlannedTest, PolicyPack, Seat
from airflow_mlgov.policy.plan_tests import KNOWN_TESTS
from airflow_mlgov.policy.schema import Departure, suggestion
from airflow_mlgov.policy.seating import unseated

_Path: TypeAlias = tuple[str | int, ...]


def pack_problems(pack: PolicyPack) -> Iterator[Departure]:
    """Yield everything that is wrong with a pack that keeps to the schema."""
    yield from _identity_problems(pack)
    yield from _seat_problems(pack)
    yield from _absence_problems(pack)
    yield from _reminder_problems(pack)
    yield from _break_glass_problems(pack)
    yield from _condition_problems(pack)
    yield from _finding_rule_problems(pack)
    yield from _plan_problems(pack)
    yield from _tier_problems(pack)


def _identity_problems(pack: PolicyPack) -> Iterator[Departure]:
    known: set[str] = set()
    for index, group in enumerate(pack.identities):
        names = {name.casefold() for name in group}
        for name in sorted(names & known):
            problem = f"{name!r} stands in two identities."
            remedy = "One name means one person: join the two lists, or take it out of one."
            yield Departure(("identities", index), problem, remedy)
        known |= names


def _seat_problems(pack: PolicyPack) -> Iterator[Departure]:
    problems = []
    roles: set[str] = set()
    for index, seat in enumerate(pack.seats):
        if seat.role in roles:
            problem = f"the seat {seat.role!r} is listed twice."
            remedy = "Raise `count` on one of them instead."
            problems.append(Departure(("seats", index, "role"), problem, remedy))
        roles.add(seat.role)
        problems += _holder_problems(pack, seat, ("seats", index))
    yield from problems
    short = unseated(pack.canonical_seats())
    if short and not problems:
        problem = f"too few different people for all seats: nobody is left for {short.role!r}."
        remedy = "One person never sits on two seats: add users, or lower a count."
        index = [seat.role for seat in pack.seats].index(short.role)
        yield Departure(("seats", index, "users"), problem, remedy)


def _holder_problems(pack: PolicyPack, seat: Seat, at: _Path) -> Iterator[Departure]:
    people = Counter(map(pack.canonical, seat.users))
    for name, times in people.items():
        if times > 1:
            problem = f"{name!r} is listed {times} times in the seat {seat.role!r}."
            remedy = "List each person once; capital letters and other names of `identities` make "
            remedy += "no other person."
            yield Departure((*at, "users"), problem, remedy)
    if seat.roles:
        if not seat.veto and pack.decide_within_days is None:
            problem = f"nobody can say when rejections end a request: {seat.role!r} has no veto, "
            problem += "and whoever holds a role may still come."
            yield Departure((*at, "veto"), problem, "Add `decide_within_days`, or leave the veto.")
    elif not people:
        problem = f"nobody may sit on the seat {seat.role!r}."
        yield Departure((*at, "users"), problem, "List users, or add `roles`.")
    elif len(people) < seat.count:
        problem = f"the seat {seat.role!r} needs {seat.count} people and lists {len(people)}."
        yield Departure((*at, "count"), problem, "Add users, or lower `count`.")


def _absence_problems(pack: PolicyPack) -> Iterator[Departure]:
    for index, absence in enumerate(pack.absences):
        at = ("absences", index)
        if absence.last_day < absence.first_day:
            problem = f"the absence of {absence.user!r} ends before it begins."
            yield Departure((*at, "last_day"), problem, "Write the last day away, included.")
        yield from _place_problems(pack, absence, at)
        if pack.canonical(absence.user) in pack.names(absence.deputy):
            problem = f"{absence.user!r} is to be their own deputy."
            yield Departure((*at, "deputy"), problem, "Name somebody else.")
        for other in pack.absences[:index]:
            if _overlap(pack, absence, other):
                problem = f"two absences of {absence.user!r} share days."
                yield Departure((*at, "first_day"), problem, "Join them, or change the days.")


def _place_problems(pack: PolicyPack, absence: Absence, at: _Path) -> Iterator[Departure]:
    if pack.canonical(absence.user) in pack.seated:
        return
    if not any(seat.roles for seat in pack.seats):
        problem = f"{absence.user!r} sits on no seat."
        yield Departure((*at, "user"), problem, "Name a user of a seat.")
    elif absence.deputy:
        problem = f"no seat lists {absence.user!r} by name, so there is no place to vote in."
        remedy = "List the user on a seat, or give the deputy the role and leave `deputy` out."
        yield Departure((*at, "deputy"), problem, remedy)


def _overlap(pack: PolicyPack, one: Absence, other: Absence) -> bool:
    is_one_person = pack.canonical(one.user) == pack.canonical(other.user)
    return is_one_person and one.first_day <= other.last_day and other.first_day <= one.last_day


def _reminder_problems(pack: PolicyPack) -> Iterator[Departure]:
    last, said = pack.decide_within_days, pack.reminders
    if said is None:
        return
    if said.escalate_to and said.escalate_after_days is None:
        problem = "nothing says when these are told."
        remedy = "Add `escalate_after_days`, or take `escalate_to` out."
        yield Departure(("reminders", "escalate_to"), problem, remedy)
    for key, days in (
        ("after_days", max(said.after_days, default=0)),
        ("escalate_after_days", said.escalate_after_days or 0),
    ):
        if last is not None and days >= last:
            problem = f"day {days} comes when the request is denied already."
            remedy = f"Write days below `decide_within_days`, which is {last}."
            yield Departure(("reminders", key), problem, remedy)


def _break_glass_problems(pack: PolicyPack) -> Iterator[Departure]:
    rules = pack.break_glass
    if rules is None:
        return
    for user in rules.users:
        others = len(pack.seated - pack.names(user))
        if others < rules.quorum:
            problem = f"if {user!r} breaks glass, {others} others have a seat, not {rules.quorum}."
            remedy = "It could never be confirmed: add users to a seat, or lower `quorum`."
            yield Departure(("break_glass", "quorum"), problem, remedy)
            return


def _condition_problems(pack: PolicyPack) -> Iterator[Departure]:
    if pack.conditions is not None and not any(asdict(pack.conditions).values()):
        problem = "no condition can be set."
        yield Departure(("conditions",), problem, "Write true behind one, or take this out.")


def _finding_rule_problems(pack: PolicyPack) -> Iterator[Departure]:
    said = pack.findings
    if said is None or bool(said.accept) == bool(said.accept_max_days):
        return
    if said.accept:
        problem = "nothing says for how long a finding may be accepted."
        yield Departure(("findings", "accept_max_days"), problem, "Add it, in days.")
    else:
        problem = "nobody may accept a finding, for however long."
        yield Departure(("findings", "accept_max_days"), problem, "Add `accept`, or take it out.")


def _plan_problems(pack: PolicyPack) -> Iterator[Departure]:
    for name, lines in pack.plans.items():
        for index, line in enumerate(lines):
            yield from _line_problems(("plans", name, index), line, lines[:index])


def _line_problems(
    at: _Path, line: PlannedTest, earlier: Sequence[PlannedTest]
) -> Iterator[Departure]:
    if any(line.test == other.test for other in earlier):
        problem = f"the test {line.test!r} stands twice in this plan."
        yield Departure((*at, "test"), problem, "Keep one of them.")
    terms = KNOWN_TESTS.get(line.test)
    if terms is None:
        yield _unknown((*at, "test"), f"there is no test {line.test!r}.", line.test, KNOWN_TESTS)
        return
    for key, given, allowed in (
        ("thresholds", line.thresholds, terms.thresholds),
        ("options", line.options, terms.options),
    ):
        for word in given:
            if word not in allowed:
                problem = f"{line.test} reads no {word!r} here."
                yield _unknown((*at, key, word), problem, word, allowed)
    for word in sorted(terms.required - line.options.keys()):
        problem = f"{line.test} cannot run without the option {word!r}."
        yield Departure((*at, "options", word), problem, f"Add `{word}: ...` under `options`.")


def _unknown(path: _Path, problem: str, word: str, known: Iterable[str]) -> Departure:
    meant = suggestion(word, sorted(known))
    listed = f"Known here: {', '.join(sorted(known)) or 'nothing'}."
    return Departure(path, problem, f"Did you mean {meant!r}? {listed}" if meant else listed)


def _tier_problems(pack: PolicyPack) -> Iterator[Departure]:
    for materiality, complexity, than in pack.tiers.gaps():
        yield Departure(
            ("tiers", "matrix", materiality, complexity),
            f"a riskier model would be governed less closely than one of {than}.",
            "Tier 1 is the strictest: tiers may not rise with materiality or complexity.",
        )
