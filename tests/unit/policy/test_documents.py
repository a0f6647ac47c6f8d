from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.documents import (
    INVENTORY_SCHEMA,
    PACK_SCHEMA,
    inspect_yaml,
    load_yaml,
    parse_yaml,
    schema,
)
from airflow_mlgov.policy.files import read_bytes, yaml_files
from airflow_mlgov.policy.yaml_nodes import MAX_BYTES


def test_line_of_the_deepest_part_that_stands_there() -> None:
    document = parse_yaml(b"a:\n  - b: 1\n    c: 2\n", "f.yaml")
    assert document.line_of(("a", 0, "c")) == 3
    assert document.line_of(("a", 0, "missing")) == 2
    assert document.line_of(("missing",)) == 1
    assert document.line_of(()) == 1


def test_an_error_names_file_line_and_path() -> None:
    error = parse_yaml(b"a:\n  - 1\n", "f.yaml").error("odd.", "a", 0, remedy="Fix it.")
    assert (error.file, error.line, error.path) == ("f.yaml", 2, "a.0")
    assert error.diagnostics() == "document: f.yaml:2: a.0: odd.\nwhat to do: Fix it."


def test_all_problems_in_the_order_of_lines(entry_text) -> None:
    text = entry_text.text.replace("mode: warn", "mode: wrn").replace(
        "owner: olivia", "ownr: olivia"
    )
    found = inspect_yaml(parse_yaml(text.encode(), "f.yaml"), INVENTORY_SCHEMA)
    assert [problem.path for problem in found] == ["ownr", "mode"]
    assert found == sorted(found, key=lambda problem: problem.line)


def test_load_raises_the_first(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\nid: X\n")
    with pytest.raises(DocumentError) as caught:
        load_yaml(file, PACK_SCHEMA)
    assert caught.value.file == str(file)
    assert caught.value.line == 1


def test_a_list_is_no_pack(tmp_path: Path) -> None:
    (found,) = inspect_yaml(parse_yaml(b"- 1\n", "f.yaml"), PACK_SCHEMA)
    assert found.problem == (
        "f.yaml:1: it is a list (`- item` lines), and a mapping (`key: value` lines) is needed."
    )


@pytest.mark.parametrize("place", ["missing.yaml", "", "a\x00b"])
def test_what_cannot_be_read(tmp_path: Path, place: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_bytes(tmp_path / place)
    assert "cannot be read" in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize("size", [0, 32 * 1024 - 1, 32 * 1024, 40_000, MAX_BYTES, MAX_BYTES + 1])
def test_files_are_read_whole_up_to_one_byte_too_many(tmp_path: Path, size: int) -> None:
    (tmp_path / "f.yaml").write_bytes(b"x" * size)
    assert len(read_bytes(tmp_path / "f.yaml")) == size
    (tmp_path / "f.yaml").write_bytes(b"x" * (MAX_BYTES + 9))
    assert len(read_bytes(tmp_path / "f.yaml")) == MAX_BYTES + 1


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", ".hidden.yaml", "notes.txt", "c.yaml.bak"):
        (tmp_path / name).write_text("x: 1\n")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "z.yaml").write_text("x: 1\n")
    assert [file.name for file in yaml_files(tmp_path)] == ["a.yml", "b.yaml"]
    assert yaml_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(DocumentError, match="no such file or folder"):
        yaml_files(tmp_path / "none")


def test_schemas_are_shipped() -> None:
    assert schema(INVENTORY_SCHEMA)["title"] == "Inventory entry, version 1"
    assert schema(PACK_SCHEMA)["title"] == "Policy pack, version 1"
