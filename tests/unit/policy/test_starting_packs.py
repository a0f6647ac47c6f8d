"""The packs that the package brings: they read, hold together, and name their sources."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from airflow_mlgov.policy.checks import check_packs
from airflow_mlgov.policy.pack_file import parse_pack
from airflow_mlgov.policy.yaml_nodes import compose

PACKS = sorted(file.name for file in (files("airflow_mlgov.policy") / "packs").iterdir())
NO_RULE = {"version", "id", "title", "existing_approvals", "reminders"}
CLAUSE = re.compile(
    r"\b(Part [IVX]+|[1-9](\.[0-9])?(\([a-z]\))?(\([ivx]+\))?|[1-9][0-9])\b|No \w+ names"
)


def text_of(name: str) -> str:
    return (files("airflow_mlgov.policy") / "packs" / name).read_text("utf-8")


@pytest.mark.parametrize("name", PACKS)
def test_a_pack_is_right_with_a_banks_own_people(name: str, tmp_path) -> None:
    own = re.sub(r"\b(\w+)_user\b", lambda found: f"{found[1]}.example", text_of(name))
    assert "_user" not in own
    (tmp_path / name).write_text(own)
    found = check_packs(tmp_path)
    assert (found.errors, found.warnings) == ([], [])
    assert list(found.good) == [name.removesuffix(".yaml")]


@pytest.mark.parametrize("name", PACKS)
def test_nobody_is_there_whom_the_bank_would_not_replace(name: str) -> None:
    pack = parse_pack(text_of(name).encode(), name)
    assert all(user.endswith("_user") for user in pack.users)


@pytest.mark.parametrize("name", PACKS)
def test_every_rule_names_its_source_or_says_that_there_is_none(name: str) -> None:
    text = text_of(name)
    lines = text.splitlines()
    for key in compose(text.encode(), name).value.keys() - NO_RULE:
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{key}:"))
        comment = ""
        while lines[at - 1].startswith("#"):
            at -= 1
            comment = f"{lines[at]} {comment}"
        assert (
            CLAUSE.search(comment)
            or "Effective challenge" in comment
            or ("Use before validation" in comment)
        ), key
