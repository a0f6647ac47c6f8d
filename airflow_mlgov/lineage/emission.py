"""From plain values to the OpenLineage client's objects, and to the Airflow provider's.

The provider (``apache-airflow-providers-openlineage``) sends the events of our tasks; what it
cannot send, since it knows only tasks and DAG runs (sources, requests, decisions), is made here as
events of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from airflow_mlgov import __version__
from airflow_mlgov.lineage.events import StepLineage, register_source
from airflow_mlgov.lineage.facets import CLASSES, Facet
from airflow_mlgov.lineage.names import check_job_name, register_job
from airflow_mlgov.records.digest import Digest

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import RunEvent

    from airflow_mlgov.lineage.datasets import Dataset

PRODUCER = f"urn:airflow-mlgov:{__version__}"
"""Who states our facets; without it the provider would name itself."""


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


def registration(source: Dataset, namespace: str, at: datetime) -> RunEvent:
    """Return the lone COMPLETE event that makes a source known before its first reader.

    Args:
        source: What is about to be read.
        namespace: The deployment's job namespace.
        at: When; aware.
    """
    from openlineage.client.uuid import generate_new_uuid

    run = Run(namespace, register_job(source.name), str(generate_new_uuid(at)))
    return run_event(register_source(source), run, "COMPLETE", at)


def approval_run_id(request: Digest, part: str) -> str:
    """Return the run id of a request or a decision: always the same for the same request.

    Args:
        request: Digest of the request.
        part: ``request`` or ``decide``.
    """
    return str(uuid5(NAMESPACE_URL, f"urn:airflow-mlgov:{part}:{request}"))


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
    from openlineage.client import facet_v2

    made = {}
    for key, values in stated.items():
        module, name = CLASSES[key]
        made[key] = getattr(getattr(facet_v2, module), name)(**values, producer=PRODUCER)
    return made
