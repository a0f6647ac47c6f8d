"""What every operator of ours does around its one service call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source

if TYPE_CHECKING:
    from airflow.sdk import Context


@contextmanager
def governed_run() -> Iterator[None]:
    """Translate our errors for Airflow: what a retry cannot help fails the task at once.

    Raises:
        AirflowFailException: For an error that is not retryable.
        AirflowException: For one that is.
    """
    try:
        yield
    except MlgovError as error:
        translated = AirflowException if error.retryable else AirflowFailException
        raise translated(error.diagnostics()) from error


def source_of(context: Context | Mapping[str, Any]) -> Source:
    """Return the task instance that a context belongs to."""
    instance = context["ti"]
    map_index = instance.map_index
    return Source(
        dag_id=instance.dag_id,
        run_id=instance.run_id,
        task_id=instance.task_id,
        map_index=-1 if map_index is None else map_index,
        try_number=instance.try_number,
    )


def trigger_user(context: Context | Mapping[str, Any]) -> Person | None:
    """Return who triggered the run; None for a run that the scheduler or an asset started.

    Airflow gives a task the user's name only, so the id is that name.
    """
    name = getattr(context["dag_run"], "triggering_user_name", None)
    return Person(name, name) if name else None
