"""Model context in the events of governed tasks, with no change to their DAG.

Our listener notes what a task is about before the provider's makes its event, and the outbox
transport adds it. So it stands in whatever the provider would have sent anyway, by whichever
extractor. Nothing of it can fail a task.
"""

from __future__ import annotations

from typing import Any

from airflow.listeners import hookimpl

from airflow_mlgov.hooks.listening import keeps_outbox
from airflow_mlgov.operators.lineage import quietly
from airflow_mlgov.operators.run_facts import (
    RunFacts,
    facts_named,
    facts_of,
    keep_facts,
    note_state,
    role_of,
)
from airflow_mlgov.service.outbox import TERMINAL

GOVERNED = "mlgov_governed"


@hookimpl(tryfirst=True)
def on_task_instance_running(previous_state: Any, task_instance: Any) -> None:  # noqa: ARG001
    """Note which model a task is about, before the provider tells of its start."""
    if keeps_outbox() and not hasattr(task_instance, "operator"):
        quietly(lambda: _note_task(task_instance))


@hookimpl(tryfirst=True)
def on_task_instance_skipped(previous_state: Any, task_instance: Any) -> None:  # noqa: ARG001
    """Note that a task was skipped: the provider's event says that it is complete."""
    if keeps_outbox() and not hasattr(task_instance, "operator"):
        quietly(lambda: note_state(task_instance, "skipped"))


def enriched(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event with what is known of the governed task that it is about.

    Args:
        event: As the provider sends it; one that is about no governed task is returned as it is.
    """
    return quietly(lambda: _enriched(event)) or event


def _enriched(event: dict[str, Any]) -> dict[str, Any]:
    if "run" not in event:
        return event
    facts = facts_of(event["run"]["runId"]) or _by_name(event)
    return event if facts is None else _with_facts(event, facts)


def _with_facts(event: dict[str, Any], facts: RunFacts) -> dict[str, Any]:
    """Return an event with the facet ``mlgov_governed``, and what was used among its inputs."""
    from airflow_mlgov.lineage.emission import input_datasets
    from airflow_mlgov.lineage.facet_schemas import schema_of
    from airflow_mlgov.lineage.facets import PRODUCER

    run, inputs = event["run"], event.get("inputs") or []
    facets = run.get("facets") or {}
    stated = {
        "_producer": PRODUCER,
        "_schemaURL": schema_of(GOVERNED).url,
        **facts.facet,
        **facets.get(GOVERNED, {}),
    }
    there = {(dataset["namespace"], dataset["name"]) for dataset in inputs}
    read = input_datasets(facts.read) if facts.read else ()
    return {
        **event,
        "run": {**run, "facets": {**facets, GOVERNED: stated}},
        "inputs": [*inputs, *(d for d in read if (d["namespace"], d["name"]) not in there)],
    }


def _note_task(task_instance: Any) -> None:
    task = task_instance.task
    facts = named_facts(task_instance.dag_id, task_instance.task_id)
    if facts is None:
        role = role_of(*(each.__name__ for each in type(task).__mro__))
        if not role:
            return
        facts = RunFacts(role, str(task.model), _mode_of(str(task.model)))
    keep_facts(task_instance, facts)


def named_facts(dag_id: str, task_id: str) -> RunFacts | None:
    """Return what the inventory says of a task; None if it does not name it."""
    from airflow_mlgov.wiring import open_inventory

    folder = open_inventory()
    said = folder.named_tasks(dag_id).get(task_id) if folder else None
    return facts_named(*said[0]) if said else None


def _mode_of(model: str) -> str:
    from airflow_mlgov.wiring import open_inventory

    folder = open_inventory()
    entry = folder.entries(model).get(model) if folder else None
    return entry.mode.value if entry else ""


def _by_name(event: dict[str, Any]) -> RunFacts | None:
    """Return what the inventory says of a task whose event is made where nothing was noted.

    The scheduler makes one for a task that it finds dead, and the api-server for a state that was
    set by hand: there the provider knows no operator, and leaves its facet ``airflow`` out.
    """
    facets = event["run"].get("facets") or {}
    if "parent" not in facets:
        return None
    dag_id, job = facets["parent"]["job"]["name"], event["job"]["name"]
    facts = named_facts(dag_id, job.removeprefix(f"{dag_id}."))
    if facts is not None:
        facts.is_by_hand = event["eventType"] in TERMINAL and "airflow" not in facets
    return facts
