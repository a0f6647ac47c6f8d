"""What the decorated Python tasks share: a function, and the files that it reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk.bases.decorator import DecoratedOperator

from airflow_mlgov.operators.file_lineage import FileLineageMixin


class FileTaskOperator(FileLineageMixin, DecoratedOperator, PythonOperator):
    """A decorated function whose author names its files.

    Args:
        python_callable: The function.
        op_args: Its arguments by position. Templated.
        op_kwargs: Its arguments by name. Templated.
        inputs: Paths or URIs that it reads. Templated.
        outputs: Paths or URIs that it writes. Templated.
        **kwargs: Those of every Python task.
    """

    template_fields: Sequence[str] = (
        "templates_dict",
        "op_args",
        "op_kwargs",
        "inputs",
        "outputs",
    )

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
