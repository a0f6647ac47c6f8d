"""``@task.recorded``: any Python task that makes files out of files, with its lineage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import task_decorator_factory

from airflow_mlgov.decorators.file_task import FileTaskOperator
from airflow_mlgov.hooks.listening import is_listening
from airflow_mlgov.operators.lineage import quietly

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator


class RecordedTaskOperator(FileTaskOperator):
    """What ``@task.recorded`` makes of a function; see `recorded_task`."""

    custom_operator_name = "@task.recorded"

    def execute(self, context: Context) -> Any:
        """Run the function, and note what it read and wrote."""
        before = quietly(self.files_read) if is_listening() else None
        result = super().execute(context)
        self.keep_files(before or [])
        return result


def recorded_task(
    python_callable: Callable[..., Any] | None = None, **kwargs: Any
) -> TaskDecorator:
    """Wrap a function that makes files out of files, so that lineage goes through it.

    Args:
        python_callable: Function to decorate.
        **kwargs: ``inputs`` and ``outputs``, lists of paths or URIs, templated; and whatever
            ``@task`` takes.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=RecordedTaskOperator, **kwargs
    )
