"""Silence: where heartbeats came later than stated, and since when they fail to come."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_mlgov.ledger.verify import Report, verify_ledger

EMPTY_LIST = f"sha256:{hashlib.sha256(b'[]').hexdigest()}"
BEGUN = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGUN + timedelta(seconds=seconds)


def report_of(golden: Any, *beats: tuple[float, int], now: datetime | None = None) -> Report:
    """A ledger with heartbeats at so many seconds, each stating an interval."""
    leaves = [golden.leaves[0]]
    for seconds, interval_s in beats:
        leaves.append(
            golden.leaf(
                "log",
                "heartbeat",
                at=at(seconds),
                model="",
                version=None,
                body={"interval_s": interval_s},
            )
        )
        leaves.append(golden.leaf("writer", at=at(seconds + 5)))
    note = golden.sign(leaves)
    return verify_ledger(leaves, note, golden.trust, disclose=golden.disclose, now=now)


def test_heartbeats_that_come_as_stated_leave_no_remark(golden: Any) -> None:
    report = report_of(golden, (0, 60), (60, 60), (126, 60), (190, 60), now=at(256))
    assert (report.is_fine, report.remarks, report.alive_at) == (True, (), at(190))
    assert any("2026-01-02 12:03:10 UTC by its clock" in line for line in report.lines())
    assert "Remarks:" not in report.lines()
    assert report.kinds["heartbeat"] == 4


def test_a_silence_is_a_remark_and_no_problem(golden: Any) -> None:
    report = report_of(golden, (0, 60), (67, 60), (3_667, 60), (3_727, 60))
    assert (report.is_fine, report.exit_code, report.problems) == (True, 0, ())
    (remark,) = report.remarks
    assert remark == (
        "Heartbeats came later than stated 2 time(s); the longest silence was 1:00:00, from "
        "2026-01-02 12:01:07 UTC to 2026-01-02 13:01:07 UTC, where 0:01:00 was stated."
    )
    assert f"  {remark}" in report.lines()
    assert report.as_json()["remarks"] == [remark]
    assert report.as_json()["alive_at"] == "2026-01-02T13:02:07.000Z"


def test_the_longest_silence_is_told_whether_shorter_ones_come_before_or_after(golden: Any) -> None:
    (remark,) = report_of(golden, (0, 60), (300, 60), (1_000, 60), (1_200, 60)).remarks
    assert "3 time(s); the longest silence was 0:11:40, from 2026-01-02 12:05:00 UTC" in remark


def test_any_entry_of_the_log_key_breaks_a_silence(golden: Any) -> None:
    leaves = [golden.leaves[0]]
    for seconds in (0, 60, 120):
        beat = ("heartbeat", {"interval_s": 60})
        count = ("model.indexed", {"size": 1, "count": 0, "leaves_sha256": EMPTY_LIST})
        kind, body = count if seconds == 60 else beat
        leaves.append(golden.leaf("log", kind, at=at(seconds), version=None, body=body))
    report = verify_ledger(leaves, golden.sign(leaves), golden.trust, disclose=golden.disclose)
    assert (report.problems, report.remarks) == ((), ())
    leaves = leaves[:3]
    report = verify_ledger(
        leaves, golden.sign(leaves), golden.trust, disclose=golden.disclose, now=at(187)
    )
    (remark,) = report.remarks
    assert remark.startswith("No heartbeat for 0:02:07, where 0:01:00 was stated: ")


def test_the_interval_that_counts_is_the_one_before_the_silence(golden: Any) -> None:
    assert report_of(golden, (0, 3600), (3_600, 60), (3_660, 60)).remarks == ()
    assert len(report_of(golden, (0, 60), (3_600, 3600)).remarks) == 1


@pytest.mark.parametrize(("seconds", "is_overdue"), [(59, False), (66, False), (66.1, True)])
def test_the_end_of_the_log_is_judged_by_the_reader_s_clock(
    golden: Any, seconds: float, is_overdue: bool
) -> None:
    report = report_of(golden, (0, 60), now=at(seconds))
    assert report.is_fine
    assert [remark.startswith("No heartbeat for 0:01:06") for remark in report.remarks] == (
        [True] if is_overdue else []
    )
    assert report_of(golden, (0, 60)).remarks == ()


def test_a_ledger_without_heartbeats_promises_none(golden: Any) -> None:
    report = report_of(golden, now=at(10**7))
    assert report.remarks == ()
    assert report.alive_at == datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)  # genesis


def test_threat_20_a_clock_that_goes_back_is_no_silence(golden: Any) -> None:
    report = report_of(golden, (86_400, 60), (0, 60), now=at(30))
    assert (report.is_fine, report.remarks, report.alive_at) == (True, (), at(0))


@pytest.mark.parametrize("role", ["writer", "attestor"])
def test_threat_19_a_heartbeat_of_another_key_is_none(golden: Any, role: str) -> None:
    leaf = golden.leaf(role, "heartbeat", model="", version=None, body={"interval_s": 60})
    leaves = [golden.leaves[0], leaf]
    report = verify_ledger(leaves, golden.sign(leaves), golden.trust, disclose=golden.disclose)
    assert report.exit_code == 1
    assert "may not sign heartbeat" in report.problems[0]
    assert report.kinds == {"genesis": 1}


@pytest.mark.parametrize("interval", [0, -1, True, 1.0, "60", None, 31_536_001, 2**53])
def test_an_interval_is_a_whole_number_of_seconds_up_to_a_year(golden: Any, interval: Any) -> None:
    from airflow_mlgov.records.shapes import misfit

    assert "interval_s" in misfit({"interval_s": interval})
    assert not misfit({"interval_s": 1})
    assert not misfit({"interval_s": 31_536_000})
