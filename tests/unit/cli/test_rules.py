from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACK = ROOT / "tests" / "assets" / "policy" / "policy-pack-1.yaml"
ENTRY = ROOT / "tests" / "assets" / "policy" / "inventory-1.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy").mkdir()
    (tmp_path / "inventory").mkdir()
    (tmp_path / "policy" / "p.yaml").write_text(PACK.read_text())
    (tmp_path / "inventory" / "m.yaml").write_text(ENTRY.read_text())
    return tmp_path


def test_what_is_right(folder: Path, airflow, configure) -> None:
    configure(inventory_path=folder / "inventory", policy_path=folder / "policy")
    ended = airflow("inventory", "check", "--output", "json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json == [
        {
            "file": str(folder / "inventory" / "m.yaml"),
            "result": "ok",
            "id": "golden_model",
            "policy": "golden_pack",
            "tier": "3",
            "mode": "warn",
            "problems": [],
        }
    ]
    ended = airflow("policy", "check", "--output", "json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json[0]["digest"].startswith("sha256:")
    assert ended.json[0]["seats"] == ["model_owner x1", "independent_validator x2"]


def test_every_error_with_file_line_path_and_remedy(folder: Path, airflow, configure) -> None:
    bad = folder / "policy" / "a.yaml"
    bad.write_text(
        PACK.read_text().replace("valid_days: 180", "valid_day: 180").replace("L1", "l1")
    )
    ended = airflow("policy", "check", folder / "policy", "--output", "json")
    assert ended.code == 65
    line = PACK.read_text().splitlines().index("valid_days: 180") + 1
    assert (
        f"document: {bad}:{line}: valid_day: the key 'valid_day' is not known.\n"
        "what to do: Did you mean 'valid_days'?\n"
    ) in ended.err
    first, second = ended.json
    assert (first["result"], second["result"]) == ("2 error(s)", "ok")
    assert [problem["path"] for problem in first["problems"]] == ["least_assurance", "valid_day"]
    assert first["problems"][1]["line"] == str(line)
    assert first["problems"][1]["level"] == "error"


def test_a_table_for_people(folder: Path, airflow, configure) -> None:
    ended = airflow("policy", "check", folder / "policy")
    assert "golden_pack" in ended.out
    assert "problems" not in ended.out


def test_warnings_do_not_fail(folder: Path, airflow, configure) -> None:
    file = folder / "inventory" / "m.yaml"
    file.write_text(file.read_text().replace("validators: [victor]", "validators: [erin]"))
    ended = airflow("inventory", "check", file, "--policy", folder / "policy", "--output", "json")
    assert ended.code == 0
    assert ended.err.startswith(f"warning: {file}:12: validators: erin both develops")
    assert ended.json[0]["result"] == "1 warning(s)"


def test_an_unknown_pack_fails(folder: Path, airflow, configure) -> None:
    pack = folder / "policy" / "p.yaml"
    pack.write_text(pack.read_text().replace("id: golden_pack", "id: another"))
    ended = airflow("inventory", "check", folder / "inventory", "--policy", folder / "policy")
    assert ended.code == 65
    assert "there is no policy pack 'golden_pack'" in ended.err


def test_without_packs_the_inventory_is_still_checked(folder: Path, airflow, configure) -> None:
    ended = airflow("inventory", "check", folder / "inventory")
    assert ended.code == 0
    assert "note: there are no policy packs to check against" in ended.err


def test_broken_packs_are_noted(folder: Path, airflow, configure) -> None:
    (folder / "policy" / "q.yaml").write_text("x: 1\n")
    ended = airflow("inventory", "check", folder / "inventory", "--policy", folder / "policy")
    assert ended.code == 0
    assert "errors in policy packs" in ended.err


@pytest.mark.parametrize("what", ["inventory", "policy"])
def test_no_setting_no_folder_no_file(tmp_path: Path, airflow, configure, what: str) -> None:
    ended = airflow(what, "check")
    assert ended.code == 64
    assert f"{what}_path is missing" in ended.err
    ended = airflow(what, "check", tmp_path / "none")
    assert ended.code == 65
    assert "there is no such file or folder" in ended.err
    ended = airflow(what, "check", tmp_path)
    assert ended.code == 65
    assert "there is no *.yaml or *.yml file here" in ended.err
