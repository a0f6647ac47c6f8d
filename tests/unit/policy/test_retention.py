from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.pack_file import parse_pack
from airflow_mlgov.policy.retention import STANDARD_YEARS, longest_years, years_after
from airflow_mlgov.records.kinds import Retention

SAME = dict.fromkeys(Retention, 0)


def test_the_longest_of_each_class() -> None:
    found = longest_years([{**SAME, Retention.APPROVAL: 3}, {**SAME, Retention.EVIDENCE: 7}])
    assert found == {Retention.APPROVAL: 3, Retention.EVIDENCE: 7, Retention.OPERATION: 0}
    assert longest_years([]) == STANDARD_YEARS


def test_the_standard_is_no_shorter_than_the_law_says() -> None:
    assert STANDARD_YEARS.keys() == set(Retention)
    assert min(STANDARD_YEARS[Retention.APPROVAL], STANDARD_YEARS[Retention.EVIDENCE]) >= 10
    assert STANDARD_YEARS[Retention.OPERATION] >= 0.5


@pytest.mark.parametrize(
    ("moment", "years", "then"),
    [
        ((2026, 6, 1, 12), 10, (2036, 6, 1, 12)),
        ((2024, 2, 29), 1, (2025, 3, 1)),
        ((2024, 2, 29), 4, (2028, 2, 29)),
        ((2999, 12, 31), 100, (3099, 12, 31)),
        ((2026, 6, 1), 0, (2026, 6, 1)),
    ],
)
def test_years_are_counted_on_the_calendar(moment, years: int, then) -> None:
    assert years_after(datetime(*moment, tzinfo=UTC), years) == datetime(*then, tzinfo=UTC)


def pack(pack_text: str, retention: str):
    return parse_pack(f"{pack_text}{retention}\n".encode(), "pack.yaml").retention


@pytest.fixture
def pack_text() -> str:
    from importlib.resources import files

    skeleton = (files("airflow_mlgov.cli") / "skeletons" / "policy.yaml").read_text("utf-8")
    return "\n".join(line for line in skeleton.splitlines() if "retention:" not in line) + "\n"


def test_a_pack_states_some_or_all_classes(pack_text: str) -> None:
    assert pack(pack_text, "") == STANDARD_YEARS
    assert pack(pack_text, "retention: {approval: 3}") == {
        **STANDARD_YEARS,
        Retention.APPROVAL: 3,
    }
    assert pack(pack_text, "retention: {approval: 0, evidence: 1, operation: 100}") == {
        Retention.APPROVAL: 0,
        Retention.EVIDENCE: 1,
        Retention.OPERATION: 100,
    }


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("{approval: -1}", "retention.approval"),
        ("{evidence: 101}", "retention.evidence"),
        ("{operation: 0.5}", "retention.operation"),
        ("{votes: 3}", "'votes' is not known"),
    ],
)
def test_what_a_pack_cannot_say(pack_text: str, said: str, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        pack(pack_text, f"retention: {said}")
    assert problem in str(caught.value)
