"""``@task.recorded``: any Python task that makes files out of files, with its lineage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

from airflow_mlgov.operators.file_lineage import FileLineageMixin
from airflow_mlgov.operators.lineage import is_listening, quietly

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator


class RecordedTaskOperator(FileLineageMixin, DecoratedOperator, PythonOperator):
    """What ``@task.recorded`` makes of a function; see `recorded_task`."""

    template_fields: Sequence[str] = (
        "templates_dict",
        "op_args",
        "op_kwargs",
        "inputs",
        "outputs",
    )
    custom_operator_name = "@task.recorded"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        upstream = {"python_callable": python_callable, "op_args": op_args, "op_kwargs": op_kwargs}
        super().__init__(
            kwargs_to_upstream=upstream,
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            **kwargs,
        )
        self.inputs = list(inputs)
        self.outputs = list(outputs)

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
