"""Policy packs from YAML files, and what the schema cannot say about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.documents import (
    PACK_SCHEMA,
    Document,
    inspect_yaml,
    parse_yaml,
)
from airflow_mlgov.policy.files import read_bytes, yaml_files
from airflow_mlgov.policy.pack import (
    Absence,
    BreakGlassRules,
    FindingRules,
    PlannedTest,
    PolicyPack,
    Reminders,
    Seat,
    Segregation,
)
from airflow_mlgov.policy.plan_tests import KNOWN_TESTS
from airflow_mlgov.policy.retention import STANDARD_YEARS
from airflow_mlgov.policy.schema import Departure, suggestion
from airflow_mlgov.policy.seating import unseated
from airflow_mlgov.policy.tiers import STANDARD_TIERS, TierRule
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Assurance, Severity
from airflow_mlgov.records.kinds import Retention


def read_packs(path: str | Path) -> dict[str, PolicyPack]:
    """Read every policy pack of a folder, or the one in a file, by id.

    Args:
        path: Folder of ``*.yaml`` and ``*.yml`` files, or one file.

    Raises:
        DocumentError: The first thing that is wrong with one of them; a retry does not help.
    """
    packs: dict[str, PolicyPack] = {}
    for file in yaml_files(path):
        pack = parse_pack(read_bytes(file), str(file))
        clash = pack_clash(pack, packs)
        if clash:
            raise parse_yaml(pack.source, pack.file).locate(clash)
        packs[pack.id] = pack
    return packs


def pack_clash(pack: PolicyPack, packs: Mapping[str, PolicyPack]) -> Departure | None:
    """Return what is wrong if another file states a pack's id already."""
    if pack.id not in packs:
        return None
    return Departure(
        ("id",),
        f"the pack {pack.id!r} stands in {packs[pack.id].file} too.",
        "Keep one: earlier versions of a pack live in the evidence store, not here.",
    )


def parse_pack(source: bytes, file: str) -> PolicyPack:
    """Return the policy pack that a file's bytes state.

    Args:
        source: The bytes, at most 1 MiB; their SHA-256 is the pack's identity.
        file: Name for errors.

    Raises:
        DocumentError: The first thing that is wrong with it; a retry does not help.
    """
    pack, problems = inspect_pack(source, file)
    if pack is None:
        raise problems[0]
    return pack


def inspect_pack(source: bytes, file: str) -> tuple[PolicyPack | None, list[DocumentError]]:
    """Return the pack, or None and everything that is wrong with it, in the order of its lines."""
    try:
        document = parse_yaml(source, file)
    except DocumentError as error:
        return None, [error]
    problems = inspect_yaml(document, PACK_SCHEMA)
    if problems:
        return None, problems
    pack = _pack(document)
    problems = [
        *_identity_problems(document, pack),
        *_seat_problems(document, pack),
        *map(document.locate, _absence_problems(pack)),
        *map(document.locate, _reminder_problems(pack)),
        *map(document.locate, _finding_rule_problems(pack)),
        *map(document.locate, _break_glass_problems(pack)),
        *_plan_problems(document, pack),
        *_tier_problems(document, pack),
    ]
    return (None, sorted(problems, key=lambda problem: problem.line)) if problems else (pack, [])


def _pack(document: Document) -> PolicyPack:
    said = document.value
    tiers = said.get("tiers")
    return PolicyPack(
        id=said["id"],
        title=said["title"],
        digest=Digest.of(document.source),
        source=document.source,
        file=document.file,
        least_assurance=Assurance(said["least_assurance"]),
        seats=tuple(map(_seat, said["seats"])),
        segregation=Segregation(**said["segregation"]),
        required_evidence=tuple(said["required_evidence"]),
        comment_min_length=said["comment_min_length"],
        valid_days=said["valid_days"],
        plans={name: tuple(map(_planned, lines)) for name, lines in said["plans"].items()},
        existing_approvals=said["existing_approvals"],
        supersedes=tuple(Digest.parse(digest) for digest in said.get("supersedes", ())),
        tiers=TierRule(tiers["rule"], tiers["matrix"]) if tiers else STANDARD_TIERS,
        retention={
            kept: said.get("retention", {}).get(kept, STANDARD_YEARS[kept]) for kept in Retention
        },
        identities=tuple(map(tuple, said.get("identities", ()))),
        absences=tuple(map(_absence, said.get("absences", ()))),
        decide_within_days=said.get("decide_within_days"),
        reminders=_reminders(said["reminders"]) if "reminders" in said else None,
        findings=_finding_rules(said["findings"]) if "findings" in said else None,
        break_glass=_break_glass_rules(said["break_glass"]) if "break_glass" in said else None,
    )


def _break_glass_rules(said: dict[str, Any]) -> BreakGlassRules:
    return BreakGlassRules(**{**said, "users": tuple(said["users"])})


def _finding_rules(said: dict[str, Any]) -> FindingRules:
    accept = tuple(said.get("accept", ()))
    return FindingRules(tuple(said["close"]), accept, said.get("accept_max_days", 0))


def _reminders(said: dict[str, Any]) -> Reminders:
    return Reminders(tuple(sorted(said["after_days"])), said.get("escalate_after_days"))


def _seat(said: dict[str, Any]) -> Seat:
    return Seat(said["role"], said["count"], tuple(said["users"]), said.get("veto", True))


def _absence(said: dict[str, Any]) -> Absence:
    first, last = (date.fromisoformat(said[day]) for day in ("first_day", "last_day"))
    return Absence(said["user"], first, last, said.get("deputy"), said["reason"])


def _planned(line: dict[str, Any]) -> PlannedTest:
    return PlannedTest(
        test=line["test"],
        thresholds=dict(line.get("thresholds", {})),
        severity=Severity(line["severity"]),
        due_days=line["due_days"],
        options=dict(line.get("options", {})),
    )


def _seat_problems(document: Document, pack: PolicyPack) -> list[DocumentError]:
    problems = []
    roles: set[str] = set()
    for index, seat in enumerate(pack.seats):
        if seat.role in roles:
            problem, remedy = (
                f"the seat {seat.role!r} is listed twice.",
                "Raise `count` on one of them instead.",
            )
            problems.append(document.error(problem, "seats", index, "role", remedy=remedy))
        roles.add(seat.role)
        problems += _user_problems(document, index, seat, pack)
    short = unseated(pack.canonical_seats())
    if short and not problems:
        problem = f"too few different people for all seats: nobody is left for {short.role!r}."
        remedy = "One person never sits on two seats: add users, or lower a count."
        at = [seat.role for seat in pack.seats].index(short.role)
        problems.append(document.error(problem, "seats", at, "users", remedy=remedy))
    return problems


def _identity_problems(document: Document, pack: PolicyPack) -> list[DocumentError]:
    problems = []
    known: set[str] = set()
    for index, group in enumerate(pack.identities):
        names = {name.casefold() for name in group}
        for name in sorted(names & known):
            problem = f"{name!r} stands in two identities."
            remedy = "One name means one person: join the two lists, or take it out of one."
            problems.append(document.error(problem, "identities", index, remedy=remedy))
        known |= names
    return problems


def _absence_problems(pack: PolicyPack) -> Iterator[Departure]:
    listed = {user for seat in pack.canonical_seats() for user in seat.users}
    for index, absence in enumerate(pack.absences):
        at = ("absences", index)
        if absence.last_day < absence.first_day:
            problem = f"the absence of {absence.user!r} ends before it begins."
            yield Departure((*at, "last_day"), problem, "Write the last day away, included.")
        if pack.canonical(absence.user) not in listed:
            problem = f"{absence.user!r} sits on no seat."
            yield Departure((*at, "user"), problem, "Name a user of a seat.")
        deputy = pack.names(absence.deputy)
        if pack.canonical(absence.user) in deputy:
            problem = f"{absence.user!r} is to be their own deputy."
            yield Departure((*at, "deputy"), problem, "Name somebody else.")
        for other in pack.absences[:index]:
            if _overlap(pack, absence, other):
                problem = f"two absences of {absence.user!r} share days."
                yield Departure((*at, "first_day"), problem, "Join them, or change the days.")


def _reminder_problems(pack: PolicyPack) -> Iterator[Departure]:
    last, said = pack.decide_within_days, pack.reminders
    if last is None or said is None:
        return
    for key, days in (
        ("after_days", max(said.after_days, default=0)),
        ("escalate_after_days", said.escalate_after_days or 0),
    ):
        if days >= last:
            problem = f"day {days} comes when the request is denied already."
            remedy = f"Write days below `decide_within_days`, which is {last}."
            yield Departure(("reminders", key), problem, remedy)


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


def _overlap(pack: PolicyPack, one: Absence, other: Absence) -> bool:
    is_one_person = pack.canonical(one.user) == pack.canonical(other.user)
    return is_one_person and one.first_day <= other.last_day and other.first_day <= one.last_day


def _user_problems(
    document: Document, index: int, seat: Seat, pack: PolicyPack
) -> list[DocumentError]:
    problems = []
    people = Counter(map(pack.canonical, seat.users))
    for name, times in people.items():
        if times > 1:
            problem = f"{name!r} is listed {times} times in the seat {seat.role!r}."
            remedy = "List each person once; capital letters and other names of `identities` make "
            remedy += "no other person."
            problems.append(document.error(problem, "seats", index, "users", remedy=remedy))
    if len(people) < seat.count:
        problem = f"the seat {seat.role!r} needs {seat.count} people and lists {len(people)}."
        remedy = "Add users, or lower `count`."
        problems.append(document.error(problem, "seats", index, "count", remedy=remedy))
    return problems


def _plan_problems(document: Document, pack: PolicyPack) -> list[DocumentError]:
    return [
        document.locate(found)
        for name, lines in pack.plans.items()
        for index, line in enumerate(lines)
        for found in _line_problems(("plans", name, index), line, lines[:index])
    ]


def _line_problems(
    at: tuple[str | int, ...], line: PlannedTest, earlier: Sequence[PlannedTest]
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


def _unknown(
    path: tuple[str | int, ...], problem: str, word: str, known: Iterable[str]
) -> Departure:
    meant = suggestion(word, sorted(known))
    listed = f"Known here: {', '.join(sorted(known)) or 'nothing'}."
    return Departure(path, problem, f"Did you mean {meant!r}? {listed}" if meant else listed)


def _tier_problems(document: Document, pack: PolicyPack) -> list[DocumentError]:
    return [
        document.error(
            f"a riskier model would be governed less closely than one of {than}.",
            *("tiers", "matrix", materiality, complexity),
            remedy="Tier 1 is the strictest: tiers may not rise with materiality or complexity.",
        )
        for materiality, complexity, than in pack.tiers.gaps()
    ]
