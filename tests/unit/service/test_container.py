"""What is made for a container: the program, the specification, the command."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.container import (
    entry_archive,
    entry_command,
    read_spec,
    spec_document,
)


def test_the_archive_is_the_same_bytes_every_time() -> None:
    archive = entry_archive()
    assert entry_archive() == archive
    with zipfile.ZipFile(io.BytesIO(archive)) as held:
        assert {info.date_time for info in held.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        root = Path(sys.modules["airflow_mlgov"].__file__).parents[1]
        for name in held.namelist():
            if name != "__main__.py":
                assert held.read(name) == (root / name).read_bytes()


def _imports(tree: ast.Module) -> set[str]:
    """Return every module that some line imports, save those for type checkers only."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def test_it_holds_all_that_it_imports_and_no_more() -> None:
    with zipfile.ZipFile(io.BytesIO(entry_archive())) as held:
        trees = {name: ast.parse(held.read(name)) for name in held.namelist()}
    modules = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in trees
    }
    wanted = set().union(*map(_imports, trees.values()))
    ours = {name for name in wanted if name.startswith("airflow_mlgov")}
    assert {name.partition(".")[0] for name in wanted - ours} <= sys.stdlib_module_names
    packages = {name.rpartition(".")[0] for name in modules}
    assert ours | packages | {"__main__"} == modules | {""}


def test_an_old_python_is_told_so() -> None:
    with zipfile.ZipFile(io.BytesIO(entry_archive())) as held:
        main = held.read("__main__.py").decode()
    old = "import sys\nsys.version_info = (3, 9)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", old + main], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        1,
        "mlgov-entry.pyz needs Python 3.11 or newer in the image.\n",
    )


def _spec(**changes: Any) -> bytes:
    document = {
        "v": 1,
        "script": "train.py",
        "files": {"train.py": str(Digest.of(b""))},
        "inputs": {"dev": {"file": "dev.csv", "sha256": str(Digest.of(b"x")), "size": 1}},
        "parameters": {"rate": 0.5},
        "seed": 1,
    }
    return json.dumps({**document, **changes}).encode()


def test_a_specification_reads_back() -> None:
    inputs = {"dev": ("dev.csv", Digest.of(b"x"), 1)}
    written = spec_document("train.py", {"train.py": Digest.of(b"")}, inputs, {"rate": 0.5}, 1)
    assert json.loads(written) == json.loads(_spec())
    read = read_spec(written, Digest.of(written)).inputs["dev"]
    assert (read.file, read.sha256, read.size_bytes) == inputs["dev"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"v": 2}, "is of version 2"),
        ({"seed": -1}, "Seed -1"),
        ({"script": "other.py"}, "not among the staged files"),
        ({"files": {"../train.py": str(Digest.of(b""))}}, "no plain file name"),
        ({"files": {"train.py": "sha256:1"}}, "is malformed"),
        ({"files": []}, "is malformed"),
        ({"inputs": {"dev": {"file": "a/b", "sha256": "0" * 64, "size": 1}}}, "no plain file name"),
        ({"inputs": {"dev": {"file": "..", "sha256": "0" * 64, "size": 1}}}, "no plain file name"),
        ({"inputs": {"Dev": {"file": "d", "sha256": "0" * 64, "size": 1}}}, "Input name 'Dev'"),
        ({"inputs": {"dev": {"file": "d"}}}, "is malformed"),
    ],
)
def test_a_specification_that_cannot_be_is_refused(changes, said: str) -> None:
    data = _spec(**changes)
    with pytest.raises(ConfigurationError, match=said):
        read_spec(data, Digest.of(data))


def test_the_command_is_the_one_that_platforms_know() -> None:
    command = entry_command(
        code="/opt/ml/input/data/code/",
        spec_sha256=Digest.of(b""),
        inputs={"b": "/b", "a": "/opt/ml/input/data/a"},
        output="/opt/ml/model",
        failure="/opt/ml/output/failure",
    )
    assert command == [
        "python", "/opt/ml/input/data/code/mlgov-entry.pyz",
        "--spec", "/opt/ml/input/data/code/spec.json", "--spec-sha256", Digest.of(b"").hex,
        "--input", "a=/opt/ml/input/data/a", "--input", "b=/b",
        "--output", "/opt/ml/model", "--failure", "/opt/ml/output/failure",
    ]  # fmt: skip
    short = entry_command(
        code="/c", spec_sha256=Digest.of(b""), inputs={}, output="/o", failure=None
    )
    assert short[-2:] == ["--output", "/o"]
