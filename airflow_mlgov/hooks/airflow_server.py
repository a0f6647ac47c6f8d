"""The Airflow connection type ``mlgov_airflow``: an Airflow's own API, for a task that reads it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseHook

from airflow_mlgov.errors import ConfigurationError, MlgovError
from airflow_mlgov.hooks.address import address_of
from airflow_mlgov.hooks.airflow_api import AirflowApi, checked_address, log_in


class AirflowServerHook(BaseHook):
    """Airflow's REST API, read with a login of its own.

    A task of Airflow 3 has no database; what it wants to know of other runs it asks the api-server
    as any user does. Host, port and schema (``http`` or ``https``; or all of it in the host) name
    the server, login and password a user, who signs in by ``POST /auth/token``. A role that may
    only read is enough: ``viewer``.

    Args:
        airflow_conn_id: Airflow connection of type ``mlgov_airflow``.
    """

    conn_name_attr = "airflow_conn_id"
    default_conn_name = "mlgov_airflow"
    conn_type = "mlgov_airflow"
    hook_name = "Airflow API (mlgov)"

    def __init__(self, airflow_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.airflow_conn_id = airflow_conn_id

    def get_conn(self) -> AirflowApi:
        """Return the API that the connection describes; nobody is signed in yet.

        Raises:
            ConfigurationError: The connection is missing or malformed; a retry does not help.
        """
        connection = self.get_connection(self.airflow_conn_id)
        user, password = connection.login, connection.password
        if not user or not password:
            raise ConfigurationError(
                f"Connection {self.airflow_conn_id!r} has no login and password.",
                remedy="Make a user with the role viewer for it.",
            )
        url = checked_address(address_of(connection), f"in connection {self.airflow_conn_id!r}")
        return AirflowApi(url, lambda: log_in(url, user, password))

    def test_connection(self) -> tuple[bool, str]:
        """Sign in and read; return whether that went well, and a sentence about it."""
        try:
            return True, f"Airflow {self.get_conn().version()} lets us read."
        except MlgovError as error:
            return False, str(error)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how Airflow shows the connection's form."""
        return {
            "hidden_fields": ["extra"],
            "relabeling": {"host": "Address of the api-server"},
            "placeholders": {"host": "https://airflow.example.com"},
        }
