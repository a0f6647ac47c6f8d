from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy import inventory_file, inventory_folder
from airflow_mlgov.policy.inventory_folder import LOOK_S, InventoryFolder, folder_at

TASKS = """\
tasks:
  - {dag_id: legacy, task_id: group.score, does: score, target: production}
  - {dag_id: legacy, task_id: fit, does: train}
  - {dag_id: other.dag, task_id: ship, does: deploy, target: shadow}
"""


class Watched:
    """A folder whose clock stands still until the test moves it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text, self.now_s = path, text, 0.0
        self.folder = InventoryFolder(path, lambda: self.now_s)

    def write(self, name: str, tasks: str = TASKS, **changes: str) -> Path:
        text = self.text + tasks
        for old, new in {"golden_model": name, "golden.model-1": name, **changes}.items():
            text = text.replace(old, new)
        file = self.path / f"{name}.yaml"
        file.write_text(text)
        return file

    def later(self) -> InventoryFolder:
        self.now_s += LOOK_S
        return self.folder


@pytest.fixture
def watched(tmp_path: Path, entry_text) -> Watched:
    return Watched(tmp_path, entry_text.text)


def test_it_names_the_tasks_of_a_dag(watched) -> None:
    watched.write("retail")
    named = watched.folder.named_tasks("legacy")
    assert {task_id: [task.does for _, task in found] for task_id, found in named.items()} == {
        "group.score": ["score"],
        "fit": ["train"],
    }
    assert list(watched.folder.named_tasks("other.dag")) == ["ship"]
    assert watched.folder.named_tasks("unknown") == {}


@pytest.mark.parametrize("word", ["lega", "egacy", "other", "dag", "retail-"])
def test_a_part_of_an_id_is_no_id(watched, word) -> None:
    watched.write("retail")
    assert not watched.folder.mentions(word)


def test_the_strictest_model_of_a_task_comes_first(watched) -> None:
    for name, mode in (("a", "observe"), ("b", "enforce"), ("c", "warn")):
        watched.write(name, **{"mode: warn": f"mode: {mode}"})
    entries = [entry.id for entry, _ in watched.folder.named_tasks("legacy")["fit"]]
    assert entries == ["b", "c", "a"]


def test_what_is_not_asked_about_is_not_parsed(watched, monkeypatch) -> None:
    watched.write("retail")
    monkeypatch.setattr(inventory_file, "inspect_entry", lambda *_: pytest.fail("was parsed"))
    assert not watched.folder.mentions("unknown")
    assert watched.folder.named_tasks("unknown") == {}


def test_files_are_read_once_and_again_only_if_they_change(watched, monkeypatch) -> None:
    file = watched.write("retail")
    parsed, read = [], []
    inspect, read_bytes = inventory_file.inspect_entry, inventory_folder.read_bytes
    monkeypatch.setattr(
        inventory_file, "inspect_entry", lambda *a: parsed.append(a[1]) or inspect(*a)
    )
    monkeypatch.setattr(
        inventory_folder, "read_bytes", lambda path: read.append(path) or read_bytes(path)
    )
    for _ in range(3):
        assert watched.later().named_tasks("legacy")
    assert len(parsed) == len(read) == 1
    file.write_text(file.read_text().replace("legacy", "newer"))
    assert watched.folder.named_tasks("legacy"), "looked at again too soon"
    assert watched.later().named_tasks("legacy") == {}
    assert watched.folder.named_tasks("newer")
    assert len(parsed) == len(read) == 2


def test_a_change_of_the_same_size_and_a_new_and_a_deleted_file_are_seen(watched) -> None:
    file = watched.write("retail")
    assert watched.folder.mentions("legacy")
    stamp = file.stat().st_mtime_ns
    file.write_text(file.read_text().replace("legacy", "legaci"))
    os.utime(file, ns=(stamp + 1, stamp + 1))
    assert not watched.later().mentions("legacy")
    other = watched.write("other")
    assert watched.later().mentions("legacy")
    other.unlink()
    assert not watched.later().mentions("legacy")


def test_a_broken_file_concerns_those_whose_ids_stand_in_it(watched) -> None:
    watched.write("retail")
    tasks = "tasks:\n  - {dag_id: broken_dag, task_id: fit, does: trian}\n"
    watched.write("broken", tasks)
    assert watched.folder.named_tasks("legacy")
    assert list(watched.folder.entries("retail")) == ["retail"]
    for ask in (lambda f: f.named_tasks("broken_dag"), lambda f: f.entries("broken")):
        with pytest.raises(DocumentError, match=r"broken.yaml:\d+: tasks.0.does"):
            ask(watched.folder)
    with pytest.raises(DocumentError):
        watched.folder.entries()


def test_two_files_of_one_model(watched) -> None:
    watched.write("retail")
    (watched.path / "twin.yaml").write_text((watched.path / "retail.yaml").read_text())
    with pytest.raises(DocumentError, match=r"stands in .*retail\.yaml too"):
        watched.folder.named_tasks("legacy")


def test_a_folder_that_is_gone_names_nothing_and_says_so(watched, tmp_path, caplog) -> None:
    folder = InventoryFolder(tmp_path / "gone", lambda: watched.now_s)
    assert not folder.mentions("legacy")
    assert "there is no such file or folder" in caplog.text
    with pytest.raises(DocumentError, match="no such file or folder"):
        folder.entries("legacy")
    (tmp_path / "gone").mkdir()
    watched.now_s += LOOK_S
    assert folder.entries() == {}


def test_a_process_has_one_view_of_a_folder(tmp_path) -> None:
    assert folder_at(str(tmp_path)) is folder_at(str(tmp_path))
