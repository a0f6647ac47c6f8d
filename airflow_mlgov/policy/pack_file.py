"""Policy packs from YAML files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any
from unicodedata import normalize

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
    ConditionRules,
    ExitRules,
    FindingRules,
    PlannedTest,
    PolicyPack,
    Reminders,
    Seat,
    Segregation,
)
from airflow_mlgov.policy.pack_problems import pack_problems
from airflow_mlgov.policy.platform_controls import PlatformRules
from airflow_mlgov.policy.retention import STANDARD_YEARS
from airflow_mlgov.policy.schema import Departure
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
    problems = [document.locate(found) for found in pack_problems(pack)]
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
        conditions=_condition_rules(said["conditions"]) if "conditions" in said else None,
        platforms=_platform_rules(said["platforms"]) if "platforms" in said else None,
        exit=_exit_rules(said["exit"]) if "exit" in said else None,
    )


def _exit_rules(said: dict[str, Any]) -> ExitRules:
    return ExitRules(**{name: float(bound) for name, bound in said.items()})


def _platform_rules(said: dict[str, Any]) -> PlatformRules:
    rules: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
    return PlatformRules(**rules)


def _condition_rules(said: dict[str, Any]) -> ConditionRules:
    return ConditionRules(
        end_date=said.get("end_date", False),
        max_rows_per_run=said.get("max_rows_per_run", False),
        segments={
            column: tuple(normalize("NFC", value) for value in values)
            for column, values in said.get("segments", {}).items()
        },
        data_validation=said.get("data_validation", False),
    )


def _break_glass_rules(said: dict[str, Any]) -> BreakGlassRules:
    return BreakGlassRules(**{**said, "users": tuple(said["users"])})


def _finding_rules(said: dict[str, Any]) -> FindingRules:
    accept = tuple(said.get("accept", ()))
    return FindingRules(tuple(said["close"]), accept, said.get("accept_max_days", 0))


def _reminders(said: dict[str, Any]) -> Reminders:
    days, escalate_to = tuple(sorted(said["after_days"])), tuple(said.get("escalate_to", ()))
    return Reminders(days, said.get("escalate_after_days"), escalate_to)


def _seat(said: dict[str, Any]) -> Seat:
    users, roles = tuple(said["users"]), tuple(said.get("roles", ()))
    return Seat(said["role"], said["count"], users, said.get("veto", True), roles)


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
