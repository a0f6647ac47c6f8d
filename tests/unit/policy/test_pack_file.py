from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.pack import BreakGlassRules, PlannedTest, Reminders, Seat, Segregation
from airflow_mlgov.policy.pack_file import inspect_pack, parse_pack, read_packs
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Assurance, Severity
from airflow_mlgov.records.people import Person

ROOT = Path(__file__).parents[3]


def test_the_golden_pack_reads_as_it_always_did(pack_text) -> None:
    source = pack_text.text.encode()
    pack = parse_pack(source, "golden.yaml")
    assert pack.id == "golden_pack"
    assert pack.title == "Golden pack: every key"
    assert pack.digest == Digest.of(source)
    assert pack.digest.hex == "1e4902346e852dc9d9ba5f45f97c7cc8bd3e739ae030bae94d23bc9d4d69f955"
    assert pack.source == source
    assert pack.file == "golden.yaml"
    assert pack.least_assurance is Assurance.L1
    assert pack.seats == (
        Seat("model_owner", 1, ("olivia",)),
        Seat("independent_validator", 2, ("victor", "17", "Vera Example")),
    )
    assert pack.segregation == Segregation(requester=True, developers=False)
    assert pack.required_evidence == ("data.validated", "model.trained", "model.validated")
    assert (pack.comment_min_length, pack.valid_days, pack.existing_approvals) == (20, 180, "end")
    assert pack.plans["binary_classifier"][0] == PlannedTest(
        "discrimination.auc",
        {"warn_below": 0.7, "fail_below": 0.65},
        Severity.HIGH,
        30,
        {"confidence": 0.9},
    )
    assert pack.plans["scorecard"] == (
        PlannedTest("discrimination.ks", {"fail_below": 0.8}, Severity.LOW, 1, {}),
    )
    assert pack.tiers.rule == "golden-1"
    assert pack.tiers.of("high", "low") == 3
    assert pack.users == ("olivia", "victor", "17", "Vera Example")


@pytest.mark.parametrize(
    ("old", "new", "path", "said", "remedy"),
    [
        (
            "version: 1\n",
            "version: 2\n",
            "version",
            "version 2 of this format",
            "Write `version: 1`",
        ),
        (
            "id: golden_pack",
            "id: Golden",
            "id",
            "'Golden' cannot stand here",
            "a lower-case letter",
        ),
        ("id: golden_pack", 'id: "golden\\n"', "id", "cannot stand here", "a lower-case letter"),
        (
            "valid_days: 180",
            "valid_day: 180",
            "valid_day",
            "is not known",
            "Did you mean 'valid_days'?",
        ),
        ("valid_days: 180", "valid_days: 0", "valid_days", "0 is less than 1", "from 1 on"),
        (
            "valid_days: 180",
            "valid_days: 1.5",
            "valid_days",
            "a whole number is needed",
            "whole number",
        ),
        ("valid_days: 180", "valid_days: ten", "valid_days", "'ten' is text", "whole number"),
        ("valid_days: 180\n", "", "valid_days", "the key is missing", "Add 'valid_days'"),
        (
            "comment_min_length: 20",
            "comment_min_length: 0",
            "comment_min_length",
            "less than 1",
            "from 1",
        ),
        (
            "least_assurance: L1",
            "least_assurance: L3",
            "least_assurance",
            "not one of",
            "L0, L1, L2",
        ),
        (
            "existing_approvals: end",
            "existing_approvals: ends",
            "existing_approvals",
            "not one of",
            "'end'",
        ),
        (
            "requester: true",
            "requester: yes",
            "segregation.requester",
            "'yes' is text",
            "true or false",
        ),
        ("  requester: true\n", "", "segregation.requester", "missing", "Add 'requester'"),
        ("count: 1", "count: 0", "seats.0.count", "0 is less than 1", "from 1 on"),
        ("count: 1", "count: 2", "seats.0.count", "needs 2 people and lists 1", "Add users"),
        ("users: [olivia]", "users: []", "seats.0.users", "nobody may sit", "List users"),
        ("users: [olivia]", "users: [17]", "seats.0.users.0", "text is needed", "quotation marks"),
        (
            "users: [olivia]",
            "users: [olivia, olivia]",
            "seats.0.users",
            "listed twice",
            "List it once",
        ),
        (
            "users: [olivia]",
            "users: [olivia, OLIVIA]",
            "seats.0.users",
            "2 times in the seat",
            "once",
        ),
        (
            "users: [olivia]",
            "users: [' olivia']",
            "seats.0.users.0",
            "cannot stand here",
            "without spaces",
        ),
        (
            "role: independent_validator",
            "role: model_owner",
            "seats.1.role",
            "listed twice",
            "Raise `count`",
        ),
        ("model.trained,", "model.train,", "required_evidence.1", "not one of", "'model.trained'"),
        (
            "test: discrimination.auc",
            "test: discrimination.acu",
            "plans.binary_classifier.0.test",
            "there is no test",
            "Did you mean 'discrimination.auc'?",
        ),
        (
            "fairness.adverse_impact",
            "discrimination.auc",
            "plans.binary_classifier.1.test",
            "stands twice",
            "Keep one",
        ),
        (
            "fail_below: 0.65",
            "fail_belw: 0.65",
            "plans.binary_classifier.0.thresholds.fail_belw",
            "reads no 'fail_belw'",
            "'fail_below'",
        ),
        (
            "fail_below: 0.65",
            "fail_below: low",
            "plans.binary_classifier.0.thresholds.fail_below",
            "a number is needed",
            "Write a number",
        ),
        (
            "confidence: 0.9",
            "bins: 3",
            "plans.binary_classifier.0.options.bins",
            "reads no 'bins'",
            "confidence",
        ),
        (
            "cutoff: 0.3, ",
            "",
            "plans.binary_classifier.1.options.cutoff",
            "cannot run without the option 'cutoff'",
            "Add `cutoff: ...`",
        ),
        (
            "severity: low",
            "severity: critical",
            "plans.scorecard.0.severity",
            "not one of",
            "low, medium",
        ),
        ("  scorecard:", "  Score card:", "plans.Score card", "cannot stand here", "A model class"),
        (
            "due_days: 1\n",
            "due_days: -1\n",
            "plans.scorecard.0.due_days",
            "-1 is less than 1",
            "from 1",
        ),
        (
            "medium: {low: 4, medium: 3, high: 2}",
            "medium: {low: 5, medium: 3, high: 4}",
            "tiers.matrix.medium.high",
            "less closely than one of low materiality",
            "Tier 1 is the strictest",
        ),
        (
            "high: {low: 3, medium: 2, high: 1}",
            "high: {low: 3, medium: 2}",
            "tiers.matrix.high.high",
            "missing",
            "Add 'high'",
        ),
    ],
)
def test_each_error_is_placed(pack_text, old, new, path, said, remedy) -> None:
    source, line = pack_text.broken(old, new)
    pack, problems = inspect_pack(source, "p.yaml")
    assert pack is None
    matching = [p for p in problems if p.path == path]
    assert matching, [p.problem for p in problems]
    error = matching[0]
    assert error.file == "p.yaml"
    assert said in error.problem
    assert remedy in error.remedy
    is_absent = "missing" in said or "cannot run without" in said
    assert is_absent or error.line == line
    with pytest.raises(DocumentError):
        parse_pack(source, "p.yaml")


def test_a_missing_key_is_placed_where_it_belongs(pack_text) -> None:
    source, line = pack_text.broken("  requester: true\n", "")
    (error,) = inspect_pack(source, "p.yaml")[1]
    assert error.line == line - 1  # at `segregation:`


def test_seats_that_cannot_be_filled_at_once(pack_text) -> None:
    one_for_both = pack_text.text.replace('[victor, "17", Vera Example]', "[olivia, victor]")
    (error,) = inspect_pack(one_for_both.encode(), "p.yaml")[1]
    assert error.path == "seats.1.users"
    assert "nobody is left for 'independent_validator'" in error.problem
    enough = pack_text.text.replace('[victor, "17", Vera Example]', "[olivia, victor, x]")
    assert inspect_pack(enough.encode(), "p.yaml")[1] == []


def test_no_seat_is_no_approval(pack_text) -> None:
    start, end = pack_text.text.index("seats:"), pack_text.text.index("segregation:")
    source = (pack_text.text[:start] + "seats: []\n" + pack_text.text[end:]).encode()
    (error,) = inspect_pack(source, "p.yaml")[1]
    assert (error.path, error.line) == ("seats", source[: source.index(b"seats:")].count(b"\n") + 1)
    assert "an approval by nobody is none" in error.remedy


def test_tiers_may_be_left_out(pack_text) -> None:
    start, end = pack_text.text.index("tiers:"), pack_text.text.index("least_assurance:")
    pack = parse_pack((pack_text.text[:start] + pack_text.text[end:]).encode(), "p.yaml")
    assert pack.tiers.rule == "standard-1"


def test_any_changed_byte_is_another_pack(pack_text) -> None:
    source = pack_text.text.encode()
    assert parse_pack(source + b"# x\n", "p").digest != parse_pack(source, "p").digest


def test_read_packs(tmp_path: Path, pack_text) -> None:
    (tmp_path / "a.yaml").write_text(pack_text.text)
    (tmp_path / "b.yml").write_text(pack_text.text.replace("golden_pack", "other"))
    assert list(read_packs(tmp_path)) == ["golden_pack", "other"]
    assert list(read_packs(tmp_path / "b.yml")) == ["other"]
    (tmp_path / "c.yaml").write_text(pack_text.text)
    with pytest.raises(DocumentError) as caught:
        read_packs(tmp_path)
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "c.yaml"), 3)
    assert "a.yaml too" in caught.value.problem


def test_the_example_pack_is_right() -> None:
    assert list(read_packs(ROOT / "dags" / "policy")) == ["retail_credit"]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_KEYS = (
    "version",
    "id",
    "seats",
    "segregation",
    "plans",
    "tiers",
    "required_evidence",
    "valid_days",
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(key=st.sampled_from(_KEYS), value=_VALUES)
def test_any_value_gives_a_pack_or_clear_errors(pack_text, key: str, value: object) -> None:
    kept = [line for line in _top_level(pack_text.text) if not line.startswith(f"{key}:")]
    source = "".join([*kept, f"{key}: {json.dumps(value)}\n"]).encode()
    pack, problems = inspect_pack(source, "p.yaml")
    assert (pack is None) == bool(problems)
    assert all(problem.remedy and problem.file == "p.yaml" for problem in problems)


def _top_level(text: str) -> list[str]:
    """Return the text's top-level entries, each with its indented lines."""
    parts: list[str] = []
    for line in text.splitlines(keepends=True):
        if line[0] in " -" and parts:
            parts[-1] += line
        else:
            parts.append(line)
    return parts


GLASS = "break_glass: {users: [%s], max_hours: 8, quorum: %d, confirm_within_days: 3}\n"


def test_whoever_breaks_glass_enough_others_can_confirm_it(pack_text) -> None:
    """The golden pack seats four people."""
    source = (pack_text.text + GLASS % ("zoe, victor", 3)).encode()
    assert parse_pack(source, "p.yaml").break_glass == BreakGlassRules(("zoe", "victor"), 8, 3, 3)
    assert parse_pack(pack_text.text.encode(), "p.yaml").break_glass is None
    (error,) = inspect_pack((pack_text.text + GLASS % ("zoe", 5)).encode(), "p.yaml")[1]
    assert (error.path, "'zoe' breaks glass" in error.problem) == ("break_glass.quorum", True)
    (error,) = inspect_pack((pack_text.text + GLASS % ("zoe, VICTOR", 4)).encode(), "p.yaml")[1]
    assert "'VICTOR' breaks glass, 3 others have a seat, not 4" in error.problem


IN_USE = """
identities:
  - [olivia, "17", Olivia Example]
absences:
  - {user: olivia, first_day: 2026-12-21, last_day: 2027-01-03, deputy: dora, reason: leave}
  - {user: victor, first_day: 2026-12-21, last_day: 2026-12-21, reason: training}
decide_within_days: 14
reminders: {after_days: [7, 3], escalate_after_days: 10, escalate_to: [vera]}
"""


def in_use(pack_text, old: str = "", new: str = "") -> bytes:
    assert old in IN_USE
    text = pack_text.text.replace('[victor, "17", Vera', "[victor, nina, Vera")
    return (text + IN_USE.replace(old, new)).encode()


def test_who_is_who_who_is_away_and_how_long_it_may_take(pack_text) -> None:
    pack = parse_pack(in_use(pack_text), "p.yaml")
    assert pack.names(Person("17", "whoever")) == {"olivia", "whoever"}
    assert pack.absence_of("Olivia Example", date(2027, 1, 3)) == pack.absences[0]
    assert pack.absence_of("olivia", date(2027, 1, 4)) is None
    assert pack.absences[1].deputy is None
    assert "dora" in pack.users
    asked = datetime(2026, 1, 1, tzinfo=UTC)
    assert pack.decide_by(asked) == datetime(2026, 1, 15, tzinfo=UTC)
    assert pack.reminders == Reminders((3, 7), 10, ("vera",))
    assert [moment.day for moment in pack.reminders.moments(asked)] == [4, 8, 11]


@pytest.mark.parametrize(
    ("old", "new", "path", "said"),
    [
        (", escalate_after_days: 10", "", "reminders.escalate_to", "when these are told"),
        ("Olivia Example]", "Olivia Example]\n  - [x, Olivia]", "identities.1", "two identities"),
        ("last_day: 2027-01-03", "last_day: 2026-12-20", "absences.0.last_day", "before it begins"),
        (
            "first_day: 2026-12-21, last_day: 2027",
            "first_day: 21.12., last_day: 2027",
            "absences.0.first_day",
            "is not a date",
        ),
        ("user: victor", "user: vic", "absences.1.user", "sits on no seat"),
        ("deputy: dora", 'deputy: "17"', "absences.0.deputy", "their own deputy"),
        ("user: victor", 'user: "17"', "absences.1.first_day", "share days"),
        ("[7, 3]", "[7, 14]", "reminders.after_days", "denied already"),
        (
            "escalate_after_days: 10",
            "escalate_after_days: 15",
            "reminders.escalate_after_days",
            "denied already",
        ),
        ("[olivia, ", "[olivia, nina, ", "", ""),
        ("[olivia, ", "[nina, victor, ", "seats.1.users", "listed 2 times"),
    ],
)
def test_what_is_wrong_with_them_is_placed(pack_text, old, new, path, said) -> None:
    problems = inspect_pack(in_use(pack_text, old, new), "p.yaml")[1]
    found = {problem.path: problem.problem for problem in problems}
    assert said in found.get(path, "") if path else found == {}, found


ZOE_AWAY = """
absences:
  - {user: zoe, first_day: 2026-01-01, last_day: 2026-01-02, deputy: victor, reason: leave}
"""
WITH_ROLES = "users: [olivia], roles: [Owner, Op], veto: false"


@pytest.mark.parametrize(
    ("seat", "more", "path", "said"),
    [
        (WITH_ROLES, "decide_within_days: 9\n", "", ""),
        ("users: [], roles: [Owner], count: 3", "", "", ""),
        (WITH_ROLES, "", "seats.0.veto", "nobody can say when rejections end"),
        ("users: [olivia], roles: [' Op']", "", "seats.0.roles.0", "cannot stand here"),
        ("users: [olivia], roles: [1]", "", "seats.0.roles.0", "text is needed"),
        (
            "users: [olivia], roles: [Op]",
            ZOE_AWAY.replace("deputy: victor, ", ""),
            "",
            "",
        ),
        (
            "users: [olivia], roles: [Op]",
            ZOE_AWAY,
            "absences.0.deputy",
            "no seat lists 'zoe' by name",
        ),
    ],
)
def test_seats_for_holders_of_roles(pack_text, seat, more, path, said) -> None:
    count = "" if "count" in seat else "count: 1, "
    old = "  - role: model_owner\n    count: 1\n    users: [olivia]\n"
    assert old in pack_text.text
    text = pack_text.text.replace(old, f"  - {{role: model_owner, {count}{seat}}}\n") + more
    found = {p.path: p.problem for p in inspect_pack(text.encode(), "p.yaml")[1]}
    assert said in found.get(path, "") if path else found == {}, found
