"""The button on a training task that leads to its job in the vendor's console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class JobLink(BaseOperatorLink):
    """Leads from a task to the job that it started or found; nowhere for a local platform.

    The address is there from the moment the job is, so also while the task waits for it.
    """

    name = "Job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address of the job.

        Args:
            operator: The task, as it ran.
            ti_key: Which task instance; the operator knows its job itself.
        """
        return str(getattr(operator, "job_url", ""))

    @classmethod
    def show(cls, instance: Any, address: str) -> None:
        """Let Airflow show the address from now on.

        Args:
            instance: The running task instance, ``context["ti"]``.
            address: Of the job.
        """
        instance.xcom_push(key=cls().xcom_key, value=address)
