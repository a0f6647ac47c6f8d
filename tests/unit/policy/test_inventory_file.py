from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.inventory import Deed, InventoryEntry, Mode, NamedTask, Regime
from airflow_mlgov.policy.inventory_file import inspect_entry, parse_entry, read_inventory

ROOT = Path(__file__).parents[3]


def test_the_golden_entry_reads_as_it_always_did(entry_text) -> None:
    assert parse_entry(entry_text.text.encode(), "golden.yaml") == InventoryEntry(
        id="golden_model",
        name="Golden model",
        model_class="binary_classifier",
        purpose="Two lines that are one.",
        intended_use="Only here: nowhere else.",
        owner="olivia",
        developers=("erin", "17"),
        validators=("victor",),
        materiality="high",
        complexity="low",
        policy="golden_pack",
        targets=("production", "shadow"),
        registered_name="golden.model-1",
        mode=Mode.WARN,
        regimes=(
            Regime("SS1/23", True, date(2026, 5, 4), "No particular one."),
            Regime("IRB", False, date(2026, 5, 5), "No"),
        ),
        data_sources=("NO", "2005"),
        protected_attributes=("SEX",),
        assumptions=(),
        limitations=("Päälimmäinen 1 | 2",),
        file="golden.yaml",
    )


@pytest.mark.parametrize(
    ("old", "new", "path", "said", "remedy"),
    [
        (
            "version: 1\n",
            'version: "1"\n',
            "version",
            "version '1' of this format",
            "Write `version: 1`",
        ),
        ("id: golden_model", "id: ../golden", "id", "cannot stand here", "a lower-case letter"),
        ("id: golden_model", "id: " + "a" * 65, "id", "65 characters", "Shorten it"),
        (
            "name: Golden model",
            "nmae: Golden model",
            "nmae",
            "is not known",
            "Did you mean 'name'?",
        ),
        ("name: Golden model", 'name: " "', "name", "the text is empty", "on one line"),
        ("name: Golden model", 'name: "a\\nb"', "name", "cannot stand here", "on one line"),
        ("owner: olivia", "owner: [olivia]", "owner", "text is needed", "Write text"),
        ("developers: [erin", "developers: [erin, Erin", "developers.1", "listed twice", "once"),
        (
            "validators: [victor]",
            "validators: []",
            "validators",
            "at least 1 must be listed",
            "at least one",
        ),
        (
            "materiality: high",
            "materiality: hihg",
            "materiality",
            "not one of",
            "Did you mean 'high'?",
        ),
        ("complexity: low", "complexity: 3", "complexity", "3 is not one of", "low, medium, high"),
        (
            "targets: [production, shadow]",
            "targets: [production, production]",
            "targets",
            "twice",
            "once",
        ),
        ("golden.model-1", "golden/model", "registered_name", "cannot stand here", "hyphens"),
        ("mode: warn", "mode: on", "mode", "'on' is not one of", "observe, warn, enforce"),
        (
            "applies: true",
            "applies: maybe",
            "regimes.0.applies",
            "true or false is needed",
            "true or false",
        ),
        (
            "decided_on: 2026-05-04",
            "decided_on: 4 May 2026",
            "regimes.0.decided_on",
            "is not a date",
            "2026-05-04",
        ),
        (
            "decided_on: 2026-05-04",
            "decided_on: 2026-13-04",
            "regimes.0.decided_on",
            "is not a date",
            "year-month",
        ),
        (
            "decided_on: 2026-05-04",
            "decided_on: 20260504",
            "regimes.0.decided_on",
            "text is needed",
            "quotation",
        ),
        (
            '[NO, "2005"]',
            "[NO, 2005]",
            "data_sources.1",
            "2005 is a whole number",
            "quotation marks",
        ),
        ("assumptions: []", "assumptions:", "assumptions", "nothing is nothing", "Write a list"),
        ("mode: warn\n", "mode: warn\nfeeders: []\n", "feeders", "is not known", "Known keys here"),
    ],
)
def test_each_error_is_placed(entry_text, old, new, path, said, remedy) -> None:
    source, line = entry_text.broken(old, new)
    entry, problems = inspect_entry(source, "m.yaml")
    assert entry is None
    (error,) = [p for p in problems if p.path == path]
    assert error.file == "m.yaml"
    assert said in error.problem
    assert remedy in error.remedy
    assert error.line == line + (1 if path == "feeders" else 0)


SCORE = "{dag_id: old, task_id: group.score, does: score, target: production}"


def with_tasks(entry_text, *tasks: str) -> bytes:
    return (entry_text.text + "tasks:\n" + "".join(f"  - {t}\n" for t in tasks)).encode()


def test_tasks_of_dags_without_our_operators(entry_text) -> None:
    train = "{dag_id: old, task_id: fit, does: train}"
    deploy = (
        "{dag_id: old.2, task_id: ship, does: deploy, target: shadow, alias: blue, registry: other}"
    )
    entry = parse_entry(with_tasks(entry_text, train, SCORE, deploy), "m.yaml")
    assert entry.tasks == (
        NamedTask("old", "fit", Deed.TRAIN),
        NamedTask("old", "group.score", Deed.SCORE, "production", "champion", "mlflow_default"),
        NamedTask("old.2", "ship", Deed.DEPLOY, "shadow", "blue", "other"),
    )


def test_dags_that_may_promote(entry_text) -> None:
    text = entry_text.text + "promoted_by: [retail_pd, other.dag]\n"
    assert parse_entry(text.encode(), "m.yaml").promoted_by == ("retail_pd", "other.dag")
    text = entry_text.text + "promoted_by: []\ntasks: []\n"
    entry = parse_entry(text.encode(), "m.yaml")
    assert entry == parse_entry(entry_text.text.encode(), "m.yaml")


@pytest.mark.parametrize(
    ("old", "new", "path", "said", "remedy"),
    [
        (", target: production", "", "target", "the key is missing", "production, shadow"),
        ("production", "elsewhere", "target", "none of the model's targets", "production, shadow"),
        (
            "does: score",
            "does: train",
            "target",
            "a task that trains has no 'target'",
            "Leave it out",
        ),
        ("does: score", "does: scoer", "does", "is not one of", "Did you mean 'score'?"),
        ("dag_id: old", "dag_id: old dag", "dag_id", "cannot stand here", "letters, digits"),
        ("dag_id: old", 'dag_id: "o\\x6cd"', "dag_id", "with an escape", "as it is"),
        ("task_id: group.score", "task: x", "task", "is not known", "Did you mean 'task_id'?"),
    ],
)
def test_each_error_of_a_task_is_placed(entry_text, old, new, path, said, remedy) -> None:
    assert SCORE.count(old) == 1
    source = with_tasks(entry_text, SCORE.replace(old, new))
    entry, problems = inspect_entry(source, "m.yaml")
    assert entry is None
    (error,) = [p for p in problems if p.path == f"tasks.0.{path}"]
    assert error.line == source.decode().count("\n")
    assert said in error.problem
    assert remedy in error.remedy


def test_the_same_task_twice(entry_text) -> None:
    (error,) = inspect_entry(with_tasks(entry_text, SCORE, SCORE), "m.yaml")[1]
    assert "twice" in error.problem


def test_missing_regimes(entry_text) -> None:
    start, end = entry_text.text.index("regimes:"), entry_text.text.index("data_sources:")
    text = entry_text.text[:start] + entry_text.text[end:]
    (error,) = inspect_entry(text.encode(), "m.yaml")[1]
    assert (error.path, error.remedy[:13]) == ("regimes", "Add 'regimes'")
    (error,) = inspect_entry((text + "regimes: []\n").encode(), "m.yaml")[1]
    assert "at least 1 must be listed" in error.problem


def test_read_inventory(tmp_path: Path, entry_text) -> None:
    (tmp_path / "a.yaml").write_text(entry_text.text)
    other = entry_text.text.replace("id: golden_model", "id: other").replace("golden.model-1", "o")
    (tmp_path / "b.yml").write_text(other)
    assert list(read_inventory(tmp_path)) == ["golden_model", "other"]
    assert list(read_inventory(tmp_path / "b.yml")) == ["other"]
    (tmp_path / "empty").mkdir()
    assert read_inventory(tmp_path / "empty") == {}


def test_two_files_for_one_model(tmp_path: Path, entry_text) -> None:
    (tmp_path / "a.yaml").write_text(entry_text.text)
    (tmp_path / "b.yaml").write_text(entry_text.text)
    with pytest.raises(DocumentError) as caught:
        read_inventory(tmp_path)
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "b.yaml"), 3)
    assert "a.yaml too" in caught.value.problem


def test_two_models_under_one_registered_name(tmp_path: Path, entry_text) -> None:
    (tmp_path / "a.yaml").write_text(entry_text.text)
    (tmp_path / "b.yaml").write_text(entry_text.text.replace("id: golden_model", "id: other"))
    with pytest.raises(DocumentError, match=r"registered name 'golden.model-1'") as caught:
        read_inventory(tmp_path)
    assert caught.value.path == "registered_name"
    assert caught.value.line > 3


def test_the_example_entry_is_right() -> None:
    entry = read_inventory(ROOT / "dags" / "inventory")["retail_pd"]
    assert entry.mode is Mode.ENFORCE
    assert {r.name for r in entry.regimes} == {"SR 26-2", "SS1/23", "EU AI Act", "IRB"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    key=st.sampled_from(["id", "owner", "developers", "regimes", "mode", "targets", "name"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "applies", "decided_on", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    ),
)
def test_any_value_gives_an_entry_or_clear_errors(entry_text, key: str, value: object) -> None:
    lines = entry_text.text.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(f"{key}:")]
    entry, problems = inspect_entry("".join([*kept, f"{key}: {json.dumps(value)}\n"]).encode(), "m")
    assert (entry is None) == bool(problems)
    assert all(problem.remedy and problem.file == "m" for problem in problems)
