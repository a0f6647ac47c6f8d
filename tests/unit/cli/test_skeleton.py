from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from airflow_mlgov.cli.skeleton import STARTING_PACKS
from airflow_mlgov.policy.documents import schema
from airflow_mlgov.policy.tiers import STANDARD_TIERS
from airflow_mlgov.policy.yaml_nodes import compose


def test_both_files_pass_their_own_check(tmp_path: Path, airflow, configure) -> None:
    ended = airflow("init", "--folder", tmp_path, "--output", "json")
    assert ended.code == 0
    assert [row["what"] for row in ended.json] == ["inventory", "policy"]
    inventory, policy = (Path(row["file"]) for row in ended.json)
    checked = airflow("policy", "check", policy)
    assert (checked.code, checked.err) == (0, "")
    checked = airflow("inventory", "check", inventory, "--policy", policy, "--output", "json")
    assert (checked.code, checked.err) == (0, "")
    assert checked.json[0]["result"] == "ok"
    assert checked.json[0]["tier"] == "2"


@pytest.mark.parametrize("pack", STARTING_PACKS)
def test_a_pack_to_start_from_passes_too(tmp_path: Path, airflow, configure, pack: str) -> None:
    ended = airflow("init", "--folder", tmp_path, "--pack", pack, "--output", "json")
    inventory, policy = (Path(row["file"]) for row in ended.json)
    assert policy == tmp_path / "policy" / f"{pack}.yaml"
    checked = airflow("inventory", "check", inventory, "--policy", policy, "--output", "json")
    assert (checked.code, checked.err) == (0, "")
    assert (checked.json[0]["policy"], checked.json[0]["result"]) == (pack, "ok")


@pytest.mark.parametrize("taken", ["inventory/example_model.yaml", "policy/example_policy.yaml"])
def test_nothing_is_overwritten(tmp_path: Path, airflow, taken: str) -> None:
    (tmp_path / taken).parent.mkdir()
    (tmp_path / taken).write_text("mine")
    ended = airflow("init", "--folder", tmp_path)
    assert ended.code == 64
    assert f"{tmp_path / taken} would be overwritten" in ended.err
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / taken]
    assert (tmp_path / taken).read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path: Path, airflow) -> None:
    (tmp_path / "file").write_text("")
    ended = airflow("init", "--folder", tmp_path / "file" / "sub")
    assert ended.code == 64
    assert "cannot be written" in ended.err


@pytest.mark.parametrize(
    ("skeleton", "name"), [("inventory.yaml", "inventory-1"), ("policy.yaml", "policy-pack-1")]
)
def test_every_key_is_shown_and_commented(skeleton: str, name: str) -> None:
    text = (files("airflow_mlgov.cli") / "skeletons" / skeleton).read_text("utf-8")
    value = compose(text.encode(), skeleton).value
    assert set(value) == set(schema(name)["properties"])
    lines = text.splitlines()
    commented = [n for n, line in enumerate(lines) if line.startswith("#")]
    for key in value:
        at = next(n for n, line in enumerate(lines) if line.startswith(f"{key}:"))
        nearest = max(n for n in commented if n < at)
        between = lines[nearest + 1 : at]
        assert all(line and not line.startswith(" ") for line in between), key
        assert len(between) <= 2, key


def test_the_skeleton_states_the_standard_tiers() -> None:
    text = (files("airflow_mlgov.cli") / "skeletons" / "policy.yaml").read_bytes()
    matrix = compose(text, "policy.yaml").value["tiers"]["matrix"]
    assert json.dumps(matrix) == json.dumps({m: dict(c) for m, c in STANDARD_TIERS.matrix.items()})
