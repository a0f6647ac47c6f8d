from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.policy.pack_diff import PackChange, pack_changes
from airflow_mlgov.policy.pack_file import parse_pack

ROOT = Path(__file__).parents[3]
MORE = """
identities:
  - [olivia, "19"]
absences:
  - {user: olivia, first_day: 2026-12-21, last_day: 2026-12-24, deputy: dora, reason: leave}
decide_within_days: 14
"""
SCORECARD = """\
  scorecard:
    - test: discrimination.ks
      thresholds: *bounds
      severity: low
      due_days: 1
"""


def changes(old: str, new: str) -> dict[str, str]:
    packs = (parse_pack(text.encode(), "p.yaml") for text in (old, new))
    return {change.where: change.change for change in pack_changes(*packs)}


@pytest.mark.parametrize(
    ("old", "new", "where", "change"),
    [
        ("valid_days: 180", "valid_days: 90", "valid_days", "180 becomes 90"),
        ("requester: true", "requester: false", "segregation.requester", "true becomes false"),
        (
            "users: [olivia]",
            "users: [rob, rita]",
            "seats.model_owner.users",
            "adds rita, rob; drops olivia",
        ),
        (
            "role: model_owner\n",
            "role: model_owner\n    roles: [Risk, Op]\n",
            "seats.model_owner.roles",
            "is new: Op, Risk",
        ),
        (
            "fail_below: 0.65",
            "fail_below: 0.66",
            "plans.binary_classifier.discrimination.auc.thresholds.fail_below",
            "0.65 becomes 0.66",
        ),
        (
            SCORECARD,
            "",
            "plans.scorecard",
            "is gone: discrimination.ks thresholds fail_below 0.8; severity low; due_days 1",
        ),
        (
            "high: {low: 3, medium: 2, high: 1}",
            "high: {low: 2, medium: 2, high: 1}",
            "tiers.matrix.high.low",
            "3 becomes 2",
        ),
        (
            "valid_days: 180",
            "valid_days: 180\nretention: {approval: 7}",
            "retention.approval",
            "10 becomes 7",
        ),
    ],
)
def test_what_changed_in_words(pack_text, old, new, where, change) -> None:
    assert old in pack_text.text
    assert changes(pack_text.text, pack_text.text.replace(old, new)) == {where: change}


def test_what_an_optional_key_brings(pack_text) -> None:
    assert changes(pack_text.text, pack_text.text + MORE) == {
        "identities": "is new: olivia = 19",
        "absences": "is new: olivia from 2026-12-21 first_day 2026-12-21; "
        "last_day 2026-12-24; deputy dora; reason leave",
        "decide_within_days": "is new: 14",
    }
    longer = MORE.replace("2026-12-24", "2027-01-02")
    where = "absences.olivia from 2026-12-21.last_day"
    assert changes(pack_text.text + MORE, pack_text.text + longer) == {
        where: "2026-12-24 becomes 2027-01-02"
    }


def test_comments_order_and_what_holds_anyway_are_no_change(pack_text) -> None:
    said = pack_text.text.replace('[victor, "17", Vera', '["17", victor, Vera')
    said = said.replace("    count: 2\n", "    count: 2\n    veto: true\n") + "# the same\n"
    assert changes(pack_text.text, said) == {}


def test_each_change_says_what_stands_there(pack_text) -> None:
    new = parse_pack(pack_text.text.replace("count: 2", "count: 1").encode(), "p.yaml")
    (change,) = pack_changes(parse_pack(pack_text.text.encode(), "p.yaml"), new)
    assert change == PackChange(
        "seats.independent_validator.count",
        "2 becomes 1",
        "How many different people must sit on it, 1 to 20.",
    )


def test_every_change_between_different_packs_has_a_meaning(pack_text) -> None:
    example = (ROOT / "dags" / "policy" / "retail_credit.yaml").read_bytes()
    found = pack_changes(
        parse_pack(example, "e.yaml"), parse_pack((pack_text.text + MORE).encode(), "p.yaml")
    )
    assert len(found) > 10
    assert all(change.meaning and change.change for change in found)
