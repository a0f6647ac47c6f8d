"""Names and texts that nothing opens, and the entries that account for them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.verify import Report, verify_ledger
from airflow_mlgov.records.people import Disclosure

NAME = Disclosure(b"\x05" * 32, {"id": "7", "name": "Ada"})
TEXT = Disclosure(b"\x06" * 32, "fine")


def erased(golden: Any, *fields: tuple[int, str], role: str = "log", number: int = 0) -> bytes:
    body = {"because": "request", "count": len(fields), "fields": [list(f) for f in fields]}
    key = f"sha256:{number:064x}"
    return golden.leaf(role, "erased", model="", version=None, body=body, key=key)


@pytest.fixture
def leaves(golden: Any) -> list[bytes]:
    """The genesis entry, and one that commits to a name and a text."""
    people, texts = {"developer": NAME.commitment}, {"summary": TEXT.commitment}
    return [golden.leaves[0], golden.leaf("writer", people=people, texts=texts)]


def check(golden: Any, leaves: list[bytes], *later: bytes, **disclosed: Disclosure) -> Report:
    opened = {name.replace("_", "."): value for name, value in disclosed.items()}
    note = golden.sign(leaves)
    report = verify_ledger(leaves, note, golden.trust, disclose=lambda key: opened)
    return report.with_erasures(later, Keyring(golden.trust))


@pytest.mark.attack(33)
def test_33_what_is_closed_without_a_record_is_a_problem(golden: Any, leaves: list[bytes]) -> None:
    report = check(golden, leaves)
    assert report.unaccounted == ((1, "people.developer"), (1, "texts.summary"))
    assert (report.opened, report.closed) == (0, 2)
    (problem,) = report.problems
    assert problem.startswith("2 name(s) or text(s) cannot be read, and no `erased` entry accounts")
    assert "(first: people.developer of entry 1)" in problem
    assert report.as_json()["unaccounted"] == [[1, "people.developer"], [1, "texts.summary"]]


def test_what_is_open_needs_no_record(golden: Any, leaves: list[bytes]) -> None:
    report = check(golden, leaves, people_developer=NAME, texts_summary=TEXT)
    assert (report.is_fine, report.opened, report.closed) == (True, 2, 0)
    report = check(golden, leaves, people_developer=NAME)
    assert report.unaccounted == ((1, "texts.summary"),)


@pytest.mark.attack(33)
def test_33_a_record_accounts_for_what_it_names_and_what_came_before_it(
    golden: Any, leaves: list[bytes]
) -> None:
    both = erased(golden, (1, "people.developer"), (1, "texts.summary"))
    report = check(golden, [*leaves, both])
    assert (report.is_fine, report.unaccounted, report.closed) == (True, (), 2)
    for one, other in (
        ("people.developer", "texts.summary"),
        ("texts.summary", "people.developer"),
    ):
        assert check(golden, [*leaves, erased(golden, (1, one))]).unaccounted == ((1, other),)
    assert len(check(golden, [*leaves, erased(golden, (0, "people.developer"))]).unaccounted) == 2
    too_early = erased(golden, (2, "people.developer"), (2, "texts.summary"))
    report = check(golden, [leaves[0], too_early, leaves[1]])
    assert report.unaccounted == ((2, "people.developer"), (2, "texts.summary"))


@pytest.mark.attack(33)
def test_33_a_record_of_another_key_accounts_for_nothing(golden: Any, leaves: list[bytes]) -> None:
    both = ((1, "people.developer"), (1, "texts.summary"))
    report = check(golden, [*leaves, erased(golden, *both, role="writer")])
    assert len(report.unaccounted) == 2
    report = check(golden, leaves, erased(golden, *both, role="writer"))
    assert len(report.unaccounted) == 2


def test_what_was_erased_meanwhile_is_accounted_for_by_later_entries(
    golden: Any, leaves: list[bytes]
) -> None:
    name, text = erased(golden, (1, "people.developer")), erased(golden, (1, "texts.summary"))
    report = check(golden, leaves, b"junk", name, text)
    assert (report.is_fine, report.unaccounted) == (True, ())
    report = check(golden, leaves, name)
    assert report.unaccounted == ((1, "texts.summary"),)
    assert len(report.problems) == 1


def test_an_entry_of_an_unknown_key_may_account_for_them(golden: Any, leaves: list[bytes]) -> None:
    report = check(golden, [*leaves, golden.leaf("stranger")])
    assert (report.exit_code, report.problems) == (3, ())
    assert report.unaccounted == ((1, "people.developer"), (1, "texts.summary"))
    assert [remark.rpartition("; ")[2] for remark in report.remarks] == [
        "one of an unknown key may."
    ]
