"""The Airflow connection type ``marquez``: the lineage that somebody keeps in a Marquez, read."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseHook

from airflow_mlgov.errors import ConfigurationError, MlgovError
from airflow_mlgov.hooks.address import address_of
from airflow_mlgov.lineage.marquez import TIMEOUT_S, MarquezClient

if TYPE_CHECKING:
    from airflow.sdk import Connection


class MarquezHook(BaseHook):
    """A Marquez, or the proxy before it.

    Host, port and schema (``http`` or ``https``; or all of it in the host) name the server. The
    password is sent as a bearer token; a server that wants another value of that header has it in
    the extra: ``{"authorization": "Basic ..."}``, a name that Airflow hides. The extra may hold
    ``timeout_s`` too: for each request, in seconds, 10 by default.

    What Marquez shows is a view that anybody who reaches it can change; the ledger proves.

    Args:
        marquez_conn_id: Airflow connection of type ``marquez``.
    """

    conn_name_attr = "marquez_conn_id"
    default_conn_name = "marquez_default"
    conn_type = "marquez"
    hook_name = "Marquez"

    def __init__(self, marquez_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.marquez_conn_id = marquez_conn_id
        self._client: MarquezClient | None = None

    def get_conn(self) -> MarquezClient:
        """Return the Marquez that the connection describes; nothing is asked yet.

        Raises:
            ConfigurationError: The connection is missing or malformed; a retry does not help.
        """
        if self._client is None:
            self._client = _client_of(self._described())
        return self._client

    def _described(self) -> Connection:
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            return self.get_connection(self.marquez_conn_id)
        except AirflowNotFoundException as error:
            raise ConfigurationError(
                f"There is no Airflow connection {self.marquez_conn_id!r}.",
                remedy="Add one of type marquez whose host is the address of your Marquez.",
            ) from error

    def run(self, run_id: str) -> dict[str, Any] | None:
        """Return a run (state, times, versions of inputs and outputs, facets), or None.

        Raises:
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        return self.get_conn().run(run_id)

    def run_facets(self, run_id: str, kind: Literal["run", "job"] = "run") -> dict[str, Any]:
        """Return the facets of a run, or of its job as this run saw it; none of an unknown run.

        Raises:
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        return self.get_conn().run_facets(run_id, kind)

    def upstream(self, run_id: str, depth: int = 20) -> list[dict[str, Any]]:
        """Return the runs that a run depends on, itself first; none of an unknown run.

        Args:
            run_id: Where to begin.
            depth: How many runs to go back, at least 1.

        Raises:
            LineageError: Marquez works, and fails at this question for good: a run on the way read
                what no run had written. A retry does not help.
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        return self.get_conn().upstream(run_id, depth)

    def dataset(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a dataset as the last event left it, or None.

        Raises:
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        return self.get_conn().dataset(namespace, name)

    def events(self, limit: int = 100, offset: int = 0) -> list[dict[str, Any]]:
        """Return events as they came in, the latest event time first.

        Raises:
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        return self.get_conn().events(limit, offset)

    def is_healthy(self) -> bool:
        """Return whether Marquez answers and its lists can be read."""
        return self.get_conn().is_healthy()

    def test_connection(self) -> tuple[bool, str]:
        """Ask Marquez something small; return whether it answered, and a sentence about it."""
        try:
            return True, self.get_conn().check()
        except MlgovError as error:
            return False, str(error)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how Airflow shows the connection's form."""
        return {
            "hidden_fields": ["login"],
            "relabeling": {"host": "Address of Marquez", "password": "Token"},
            "placeholders": {
                "host": "https://marquez.example.com",
                "extra": '{"timeout_s": 10}',
            },
        }


def _client_of(connection: Connection) -> MarquezClient:
    try:
        extra = json.loads(connection.extra or "{}")
        timeout_s = float(extra.get("timeout_s", TIMEOUT_S))
        given = extra.get("authorization")
    except (ValueError, TypeError, AttributeError):
        timeout_s, given = 0.0, None
    if not 0 < timeout_s < math.inf:
        raise ConfigurationError(
            f"The extra of connection {connection.conn_id!r} cannot be used.",
            remedy='Write it as {"timeout_s": 10}.',
        )
    token = f"Bearer {connection.password}" if connection.password else ""
    return MarquezClient(address_of(connection), str(given or token), timeout_s)
