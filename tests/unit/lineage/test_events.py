from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_mlgov.lineage import datasets, events
from airflow_mlgov.lineage.datasets import DataRef, ModelFacts, ModelRef
from airflow_mlgov.lineage.events import StepLineage, Trained, Training
from airflow_mlgov.records.digest import Digest

RAW = DataRef("/data/raw.csv", Digest.of(b"raw"))
MODEL = ModelRef(
    "retail_pd", "mlflow://h:5000", "retail_pd", "7", Digest.of(b"m"), "For cards.", "olivia"
)
TRAINING = Training("/dags/train.py", Digest.of(b"code"), {}, 1, "local")
FACTS = ModelFacts("mlflow", "candidate")
TRAINED = Trained(MODEL, FACTS, {}, Digest.of(b"record"), str(Digest.of(b"entry")))


def names(found: tuple[datasets.Dataset, ...]) -> set[tuple[str, str]]:
    return {(dataset.name.namespace, dataset.name.name) for dataset in found}


def test_the_scores_lead_back_to_the_raw_file_through_approval_and_validation(
    steps: dict[str, StepLineage],
) -> None:
    writer = {name: step for step in steps.values() for name in names(step.outputs)}
    seen: set[tuple[str, str]] = set()
    todo = list(names(steps["score"].outputs))
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += names(writer[node].inputs) if node in writer else []
    kinds = {
        name.split("/")[2]
        for namespace, name in seen
        if namespace == "mlgov" and name.count("/") > 2
    }
    assert kinds == {"report", "request", "approval", "endpoint"}
    assert ("mlflow://127.0.0.1:5000", "retail_pd/7") in seen
    raw = [name for namespace, name in seen if namespace == "file" and "taiwan_credit" in name]
    assert len(raw) == 1
    assert any(
        namespace == "mlgov" and name.startswith("taiwan_credit/report/")
        for namespace, name in seen
    )


def test_every_dataset_has_one_writer_or_is_a_source(steps: dict[str, StepLineage]) -> None:
    written = [name for step in steps.values() for name in names(step.outputs)]
    assert len(written) == len(set(written))
    sources = {n for step in steps.values() for n in names(step.sources(known_at_start=True))}
    read = {n for step in steps.values() for n in names(step.inputs)}
    assert read - set(written) == sources


def test_request_and_decision_are_two_steps_joined_by_the_request(
    steps: dict[str, StepLineage],
) -> None:
    assert names(steps["gate.decide"].inputs) == names(steps["gate.request"].outputs)
    assert names(steps["gate.request"].outputs).isdisjoint(names(steps["gate.decide"].outputs))


def test_readers_state_nothing_but_the_description_and_in_the_writers_words(
    steps: dict[str, StepLineage],
) -> None:
    said = {d.name: d.facets["documentation"] for step in steps.values() for d in step.outputs}
    for step in steps.values():
        for dataset in step.inputs:
            assert set(dataset.facets) == {"documentation"}
            if dataset.name in said:
                assert dataset.facets["documentation"] == said[dataset.name]


def test_a_source_is_registered_in_the_words_of_its_readers() -> None:
    read = datasets.read_data(replace(RAW, rows=5, fields=(("age", "int64"),)))
    written = events.register_source(read).outputs[0]
    assert written.name == read.name
    assert written.facets["documentation"] == read.facets["documentation"]
    assert set(written.facets) == {"datasetType", "documentation", "version", "schema"}
    assert events.register_source(read).inputs == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            events.validate_data(RAW, dataset="raw"),
            events.validate_data(RAW, dataset="raw", evidence=Digest.of(b"e")),
        ),
        (events.train([RAW], TRAINING), events.train([RAW], TRAINING, TRAINED)),
        (
            events.validate_model([MODEL], [RAW]),
            events.validate_model([MODEL], [RAW], evidence=Digest.of(b"e")),
        ),
    ],
)
def test_a_step_reads_the_same_before_and_after_and_writes_only_afterwards(
    before: StepLineage, after: StepLineage
) -> None:
    assert names(before.inputs) == names(after.inputs)
    assert before.outputs == ()
    assert len(after.outputs) == 1


def test_what_only_the_work_itself_names_is_left_out_at_the_start() -> None:
    frame = replace(RAW, uri="python:features.load", is_known_at_start=False)
    step = events.train([RAW, frame], TRAINING, TRAINED)
    assert names(step.at_start().inputs) == names((datasets.read_data(RAW),))
    assert names(step.sources(known_at_start=False)) == names((datasets.read_data(frame),))
    assert step.at_start().outputs == ()


def test_one_file_under_two_names_is_one_input() -> None:
    assert len(events.train([RAW, RAW], TRAINING).inputs) == 1


def test_a_waiting_or_denied_request_has_no_approval(steps: dict[str, StepLineage]) -> None:
    asked = datasets.ApprovalRef(MODEL, "production", Digest.of(b"r"))
    assert events.decide(asked, is_granted=None).outputs == ()
    (denial,) = events.decide(asked, is_granted=False).outputs
    assert denial.name.name.startswith("retail_pd/7/denial/")
    assert denial.name not in {d.name for d in steps["promote"].inputs}


def test_nobody_is_named_but_the_owner_in_the_inventory(steps: dict[str, StepLineage]) -> None:
    said: dict[str, Any] = {task: repr(step) for task, step in steps.items()}
    assert "olivia" in said["train"]
    assert not [task for task, text in said.items() if task != "train" and "olivia" in text]


def test_a_model_version_is_told_apart_by_number_and_described_by_digest() -> None:
    other = replace(MODEL, version="8", manifest=Digest.of(b"other"))
    first, second = (datasets.write_model(version, FACTS) for version in (MODEL, other))
    assert first.name != second.name
    assert first.facets["version"] == {"datasetVersion": str(MODEL.manifest)}
    assert first.facets["datasetType"] == {"datasetType": "MODEL", "subType": "MODEL_VERSION"}
    assert first.facets["ownership"]["owners"] == [{"name": "user:olivia", "type": "MODEL_OWNER"}]
