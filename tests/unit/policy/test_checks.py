from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.checks import check_inventory, check_packs
from airflow_mlgov.policy.pack_file import parse_pack

ROOT = Path(__file__).parents[3]


@pytest.fixture
def packs(pack_text):
    return {"golden_pack": parse_pack(pack_text.text.encode(), "pack.yaml")}


@pytest.fixture
def check(tmp_path: Path, entry_text):
    def run(packs, *changes: tuple[str, str]):
        text = entry_text.text
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "m.yaml").write_text(text)
        return check_inventory(tmp_path, packs)

    return run


def line_of(file: Path, start: str) -> int:
    lines = file.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(start))


def test_the_examples_are_right_together() -> None:
    packs = check_packs(ROOT / "dags" / "policy")
    found = check_inventory(ROOT / "dags" / "inventory", packs.good)
    assert (packs.errors, packs.warnings, found.errors, found.warnings) == ([], [], [], [])


def test_every_error_of_every_file_is_listed(tmp_path: Path, pack_text) -> None:
    (tmp_path / "a.yaml").write_text(pack_text.text.replace("count: 1", "count: 0"))
    (tmp_path / "b.yaml").write_text("id: [\n")
    (tmp_path / "c.yaml").write_text(pack_text.text)
    (tmp_path / "d.yaml").write_text(pack_text.text)
    found = check_packs(tmp_path)
    assert list(found.good) == ["golden_pack"]
    assert [Path(error.file).name for error in found.errors] == ["a.yaml", "b.yaml", "d.yaml"]
    assert found.errors[2].line == 3
    assert len(found.files) == 4


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path, pack_text) -> None:
    (tmp_path / "a.yaml").write_bytes(b"x" * (1024 * 1024 + 1))
    (tmp_path / "b.yaml").write_text(pack_text.text)
    found = check_packs(tmp_path)
    assert list(found.good) == ["golden_pack"]
    assert "at most 1048576" in found.errors[0].problem


def test_an_unknown_pack(tmp_path: Path, check, packs) -> None:
    found = check(packs, ("policy: golden_pack", "policy: goldn_pack"))
    (error,) = found.errors
    assert error.path == "policy"
    assert error.line == line_of(tmp_path / "m.yaml", "policy:")
    assert error.remedy == "Did you mean 'golden_pack'? Known packs: golden_pack."
    assert check(None, ("policy: golden_pack", "policy: goldn_pack")).errors == []


def test_a_class_without_a_plan(tmp_path: Path, check, packs) -> None:
    (error,) = check(packs, ("binary_classifier", "spreadsheet")).errors
    assert error.path == "model_class"
    assert error.line == line_of(tmp_path / "m.yaml", "model_class:")
    assert "pack.yaml, which has: binary_classifier, scorecard" in error.remedy


def test_seats_that_segregation_leaves_empty(tmp_path: Path, check, pack_text) -> None:
    segregated = pack_text.text.replace("developers: false", "developers: true")
    packs = {"golden_pack": parse_pack(segregated.encode(), "pack.yaml")}
    found = check(packs, ("developers: [erin", "developers: [Olivia"))
    assert found.errors == []
    (warning,) = found.warnings
    assert warning.path == "developers"
    assert warning.line == line_of(tmp_path / "m.yaml", "developers:")
    assert "nobody is left for the seat 'model_owner' of 'golden_pack'" in warning.problem


def test_without_segregation_developers_may_sit(check, packs) -> None:
    assert check(packs, ("developers: [erin", "developers: [olivia")).warnings == []


def test_a_developer_who_validates(check, packs) -> None:
    (warning,) = check(packs, ("validators: [victor]", "validators: [Erin]")).warnings
    assert warning.path == "validators"
    assert "no independent challenge" in warning.problem


def test_two_files_for_one_model(tmp_path: Path, entry_text, packs) -> None:
    (tmp_path / "a.yaml").write_text(entry_text.text)
    (tmp_path / "b.yaml").write_text(entry_text.text)
    found = check_inventory(tmp_path, packs)
    (error,) = found.errors
    assert (error.file, error.line, error.path) == (str(tmp_path / "b.yaml"), 3, "id")


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such file"):
        check_packs(tmp_path / "none")


@pytest.mark.parametrize(
    ("deputy", "warned"), [("", 1), (", deputy: victor", 1), (", deputy: dora", 0)]
)
def test_an_absence_that_leaves_a_seat_empty(tmp_path: Path, pack_text, deputy, warned) -> None:
    days = "first_day: 2026-12-21, last_day: 2026-12-24"
    text = f"{pack_text.text}absences:\n  - {{user: olivia, {days}{deputy}, reason: leave}}\n"
    (tmp_path / "p.yaml").write_text(text)
    found = check_packs(tmp_path)
    assert (found.errors, len(found.warnings)) == ([], warned)
    for warning in found.warnings:
        assert "on 2026-12-21 nobody is left for the seat 'model_owner'" in warning.problem
        assert (warning.path, warning.line) == ("absences.0", text.count("\n"))
