"""From plain values to the OpenLineage client's objects, and to the Airflow provider's.

The provider (``apache-airflow-providers-openlineage``) sends the events of our tasks; what it
cannot send, since it knows only tasks and DAG runs (sources, requests, decisions), is made here as
events of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from airflow_mlgov.lineage.events import StepLineage, register_source
from airflow_mlgov.lineage.facet_schemas import PUBLISHED, schema_of
from airflow_mlgov.lineage.facets import CLASSES, PRODUCER, Facet
from airflow_mlgov.lineage.names import check_job_name, register_job

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import RunEvent

    from airflow_mlgov.lineage.datasets import Dataset


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a job of our own.

    Attributes:
        namespace: The deployment's job namespace.
        job: Name of the job.
        run_id: UUID.
        parent: ``parent`` facet, complete; None for a job that nobody started.
    """

    namespace: str
    job: str
    run_id: str
    parent: Facet | None = None


def operator_lineage(step: StepLineage) -> OperatorLineage[Any, Any]:
    """Return a step as the provider takes it from an operator."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[_input(dataset) for dataset in step.inputs],
        outputs=[_output(dataset) for dataset in step.outputs],
        run_facets=_facets(step.run_facets),
        job_facets=_facets(step.job_facets),
    )


def run_event(step: StepLineage, run: Run, state: str, at: datetime) -> RunEvent:
    """Return an event of a run of our own.

    Args:
        step: What the run reads and writes.
        run: Which run.
        state: ``START``, ``COMPLETE`` or ``FAIL``.
        at: When; aware.

    Raises:
        ConfigurationError: The job's name is one that backends cannot store; a retry does not help.
    """
    from openlineage.client import event_v2

    run_facets = dict(step.run_facets)
    if run.parent is not None:
        run_facets["parent"] = run.parent
    return event_v2.RunEvent(
        eventType=event_v2.RunState[state],
        eventTime=at.isoformat(),
        run=event_v2.Run(runId=run.run_id, facets=_facets(run_facets)),
        job=event_v2.Job(
            namespace=run.namespace, name=check_job_name(run.job), facets=_facets(step.job_facets)
        ),
        inputs=[_input(dataset) for dataset in step.inputs],
        outputs=[_output(dataset) for dataset in step.outputs],
        producer=PRODUCER,
    )


def input_datasets(step: StepLineage) -> list[dict[str, Any]]:
    """Return what a step reads as it stands in an event's JSON."""
    from openlineage.client.serde import Serde

    return [dict(Serde.to_dict(_input(dataset))) for dataset in step.inputs]


def registration(source: Dataset, namespace: str, at: datetime) -> RunEvent:
    """Return the lone COMPLETE event that makes a source known before its first reader.

    What is named by its content has one such run, whoever reads it and however often; what is not
    has a new one each time.

    Args:
        source: What is about to be read.
        namespace: The deployment's job namespace.
        at: When; aware.
    """
    from openlineage.client.uuid import generate_new_uuid

    if "version" in (source.source_facets or source.facets):
        what = json.dumps([namespace, source.name.namespace, source.name.name])
        run_id = uuid5(NAMESPACE_URL, f"urn:airflow-mlgov:register:{what}")
    else:
        run_id = generate_new_uuid(at)
    run = Run(namespace, register_job(source.name), str(run_id))
    return run_event(register_source(source), run, "COMPLETE", at)


def parent_of(task: str, root: str) -> Facet:
    """Return a complete ``parent`` facet.

    Args:
        task: ``namespace/job/run id`` of the task that started the run, as the provider's macros
            write it.
        root: The same of the DAG run.
    """
    return {**_run_and_job(task), "root": _run_and_job(root)}


def _run_and_job(text: str) -> dict[str, Any]:
    namespace, job, run_id = text.rsplit("/", 2)
    return {"run": {"runId": run_id}, "job": {"namespace": namespace, "name": job}}


def _input(dataset: Dataset) -> Any:
    from openlineage.client.event_v2 import InputDataset

    return InputDataset(
        namespace=dataset.name.namespace,
        name=dataset.name.name,
        facets=_facets(dataset.facets),
        inputFacets=_facets(dataset.input_facets),
    )


def _output(dataset: Dataset) -> Any:
    from openlineage.client.event_v2 import OutputDataset

    return OutputDataset(
        namespace=dataset.name.namespace,
        name=dataset.name.name,
        facets=_facets(dataset.facets),
        outputFacets=_facets(dataset.output_facets),
    )


def _facets(stated: Mapping[str, Facet]) -> dict[str, Any]:
    made = {key: _class_of(key)(**values, producer=PRODUCER) for key, values in stated.items()}
    if "columnLineage" in made:
        made["columnLineage"].fields = _columns(made["columnLineage"].fields)
    return made


def _columns(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return objects in place of mappings: Airflow masks all of one whose key is, say, token."""
    from openlineage.client.facet_v2 import column_lineage_dataset as client

    return {
        name: client.Fields(inputFields=[client.InputField(**read) for read in one["inputFields"]])
        for name, one in fields.items()
    }


@cache
def _class_of(key: str) -> Any:
    """Return the client's class of a standard facet, or one of its kind made from our schema."""
    from openlineage.client import facet_v2

    if key in CLASSES:
        module, name = CLASSES[key]
        return getattr(getattr(facet_v2, module), name)
    import attr

    schema = schema_of(key)
    return attr.make_class(
        schema.name,
        {name: attr.field(default=None, kw_only=True) for name in schema.fields},
        bases=(getattr(facet_v2, f"{schema.entity}Facet"),),
        slots=True,
        class_body={"__module__": __name__, "_get_schema": staticmethod(lambda: schema.url)},
    )


def __getattr__(name: str) -> Any:
    """Return a class that was made from a schema, so that its facets can be copied and pickled."""
    for key, published in PUBLISHED.items():
        if published.endswith(f"/{name}"):
            return _class_of(key)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
