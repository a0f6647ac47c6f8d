from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from openlineage.client.serde import Serde

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.lineage import emission, events, names
from airflow_mlgov.lineage.datasets import DataRef, ModelFacts, ModelRef, read_data
from airflow_mlgov.lineage.events import StepLineage, Trained, Training
from airflow_mlgov.records.digest import Digest

AT = datetime(2026, 11, 23, 9, tzinfo=UTC)


def test_every_event_of_a_run_is_valid(recorded: list[dict[str, Any]], schemas: Any) -> None:
    for event in recorded:
        assert (
            schemas.check_event(event, event["job"]["name"]) > 0
            or event["job"]["name"] == "retail_pd"
        )


def test_the_event_check_sees_a_wrong_run_id_and_time(
    recorded: list[dict[str, Any]], schemas: Any
) -> None:
    event = recorded[1]
    for wrong in ({"eventTime": "yesterday"}, {"run": {**event["run"], "runId": "not-a-uuid"}}):
        with pytest.raises(AssertionError, match="not a valid OpenLineage event"):
            schemas.check_event({**event, **wrong}, "event")


def test_the_provider_gets_its_own_class(steps: dict[str, StepLineage]) -> None:
    from airflow.providers.openlineage.extractors import OperatorLineage

    made = emission.operator_lineage(steps["train"])
    assert isinstance(made, OperatorLineage)
    assert [dataset.name for dataset in made.outputs] == ["retail_pd/7"]
    assert set(made.run_facets) == {
        "executionParameters", "externalQuery", "mlgov_training", "mlgov_checkpoint"
    }  # fmt: skip
    assert set(made.job_facets) == {"sourceCodeLocation"}


def test_facets_say_that_they_are_ours(recorded: list[dict[str, Any]], checks: Any) -> None:
    producers = {facet["_producer"] for event in recorded for _, facet in checks.facets_of(event)}
    assert producers == {emission.PRODUCER}


def test_airflow_masks_nothing_of_ours(steps: dict[str, StepLineage]) -> None:
    from airflow.providers.openlineage.utils.utils import OpenLineageRedactor
    from airflow.sdk._shared.secrets_masker import _secrets_masker

    redactor = OpenLineageRedactor.from_masker(_secrets_masker())
    for task, step in steps.items():
        run = emission.Run(
            "bank", f"retail_pd.{task}", names.approval_run_id(Digest.of(b"x"), task)
        )
        plain = Serde.to_json(emission.run_event(step, run, "COMPLETE", AT))
        masked = Serde.to_json(
            redactor.redact(emission.run_event(step, run, "COMPLETE", AT), max_depth=20)
        )
        assert json.loads(masked) == json.loads(plain)


def test_a_column_may_be_called_token() -> None:
    from airflow.providers.openlineage.utils.utils import OpenLineageRedactor
    from airflow.sdk._shared.secrets_masker import _secrets_masker

    columns = (("token", "int64"), ("password_age", "int64"))
    step = events.train(
        [DataRef("/raw.csv", Digest.of(b"raw"), fields=columns)],
        Training("/train.py", Digest.of(b"code"), {}, 1, "local"),
        trained(ModelFacts("mlflow", "candidate", fields=columns)),
    )
    run = emission.Run("bank", "retail_pd.train", names.approval_run_id(Digest.of(b"x"), "x"))
    event = emission.run_event(step, run, "COMPLETE", AT)
    redactor = OpenLineageRedactor.from_masker(_secrets_masker())
    masked = json.loads(Serde.to_json(redactor.redact(event, max_depth=20)))
    facet = masked["outputs"][0]["facets"]["columnLineage"]
    assert set(facet["fields"]) == {"token", "password_age"}
    assert "***" not in json.dumps(masked)


def test_the_largest_event_of_a_training_stays_small() -> None:
    path = "/data/" + "x" * 150
    columns = tuple((f"{'column' * 8}_{n}", "double") for n in range(300))
    step = events.train(
        [DataRef(f"{path}{n}.csv", Digest.of(b"%d" % n), fields=columns) for n in range(4)],
        Training("/train.py", Digest.of(b"c"), {f"p{n}": "y" * 500 for n in range(99)}, 1, "local"),
        trained(ModelFacts("mlflow", "candidate", fields=columns)),
    )
    run = emission.Run("bank", "retail_pd.train", names.approval_run_id(Digest.of(b"x"), "x"))
    sent = Serde.to_json(emission.run_event(step, run, "COMPLETE", AT))
    assert 20_000 < len(sent) < 40_000, "the provider adds up to 10 kB of its own"


def trained(facts: ModelFacts) -> Trained:
    model = ModelRef("m", "mlflow://h:1", "m", "1", Digest.of(b"manifest"))
    inputs = {f"input_{n}": Digest.of(b"i") for n in range(99)}
    return Trained(model, facts, inputs, Digest.of(b"record"), str(Digest.of(b"entry")))


def test_a_registration_is_a_lone_complete_event() -> None:
    first = emission.registration(read_data(DataRef("/raw.csv", Digest.of(b"raw"))), "bank", AT)
    assert first.eventType.value == "COMPLETE"
    assert first.inputs == []
    assert first.job.name.startswith("register.raw.csv.")


def test_a_snapshot_is_registered_by_one_run_whoever_reads_it() -> None:
    raw = DataRef("/data/raw.csv", Digest.of(b"raw"))
    readers = [(raw, "bank"), (replace(raw, rows=5), "bank")]
    others = [
        (replace(raw, digest=Digest.of(b"new")), "bank"),
        (replace(raw, uri="/data/other.csv"), "bank"),
        (raw, "other bank"),
    ]

    def run_id(data: DataRef, namespace: str, at: datetime) -> str:
        return str(emission.registration(read_data(data), namespace, at).run.runId)

    same = {run_id(*reader, AT + timedelta(hours=n)) for n, reader in enumerate(readers)}
    assert len(same) == 1
    assert len(same | {run_id(*other, AT) for other in others}) == 4


def test_what_can_change_is_registered_anew_each_time() -> None:
    table = read_data(DataRef("postgres://host/db.public.clients"))
    ids = {str(emission.registration(table, "bank", AT).run.runId) for _ in range(2)}
    assert len(ids) == 2


def test_a_request_has_one_run_id_for_ever_and_a_decision_another() -> None:
    ids = [
        names.approval_run_id(Digest.of(b"r"), part) for part in ("request", "decide", "request")
    ]
    assert ids[0] == ids[2] != ids[1]
    assert [str(UUID(i)) for i in ids] == ids
    assert names.approval_run_id(Digest.of(b"other"), "request") != ids[0]


def test_a_parent_names_the_task_and_the_dag_run() -> None:
    facet = emission.parent_of("my/ns/dag.gate/id-1", "my/ns/dag/id-0")
    assert facet["job"] == {"namespace": "my/ns", "name": "dag.gate"}
    assert facet["run"] == {"runId": "id-1"}
    assert facet["root"] == {"run": {"runId": "id-0"}, "job": {"namespace": "my/ns", "name": "dag"}}


def test_a_job_that_backends_cannot_store_is_refused() -> None:
    run = emission.Run("bank", "prüfung.gate", names.approval_run_id(Digest.of(b"r"), "request"))
    with pytest.raises(ConfigurationError, match="ASCII"):
        emission.run_event(events.StepLineage(), run, "START", AT)


def test_building_steps_loads_no_library() -> None:
    code = (
        "import sys; from airflow_mlgov.lineage import emission, events, datasets\n"
        "print([m for m in sys.modules if m.split('.')[0] in {'openlineage', 'airflow', 'attr'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
