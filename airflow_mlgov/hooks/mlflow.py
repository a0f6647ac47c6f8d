"""The Airflow connection type ``mlflow``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.wiring.registries import open_mlflow

if TYPE_CHECKING:
    from airflow_mlgov.service.ports import Registry


class MlflowHook(BaseHook):
    """An MLflow server or database as a registry of model versions.

    The connection's host is the tracking URI (``http://mlflow:5000``), or its extra says it:
    ``{"tracking_uri": "sqlite:////var/lib/mlflow.db"}``. Login and password are sent to the server
    only. The extra may hold ``registry_uri``, ``experiment`` and ``artifact_location`` too.

    Args:
        mlflow_conn_id: Airflow connection of type ``mlflow``.
    """

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"

    def __init__(self, mlflow_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mlflow_conn_id = mlflow_conn_id

    def get_conn(self) -> Registry:
        """Return the registry that the connection describes.

        Raises:
            ConfigurationError: The connection is missing or malformed, or the extra ``mlflow`` is
                not installed; a retry does not help.
        """
        return open_mlflow(self.get_connection(self.mlflow_conn_id))

    def test_connection(self) -> tuple[bool, str]:
        """Ask MLflow something small; return whether it answered, and a sentence about it."""
        try:
            return True, open_mlflow(self.get_connection(self.mlflow_conn_id)).check()
        except MlgovError as error:
            return False, str(error)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how Airflow shows the connection's form."""
        return {
            "hidden_fields": [],
            "relabeling": {"host": "Tracking URI"},
            "placeholders": {
                "host": "http://mlflow:5000",
                "extra": '{"experiment": "airflow-mlgov"}',
            },
        }
