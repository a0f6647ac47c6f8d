"""Azure's resource manager, spoken to in JSON: resources are read, put and posted to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_mlgov.clouds.azure.session import CONNECT_S, READ_S, AzureSession

if TYPE_CHECKING:
    from azure.core import PipelineClient
    from azure.core.rest import HttpResponse

API_VERSION = "2024-10-01"
"""Of Azure Machine Learning, for every request."""

_PAUSE_S = 1.0
_PATIENCE_S = 120.0


class Arm:
    """Resources by their ids.

    Args:
        session: Whose credentials are used.
    """

    def __init__(self, session: AzureSession) -> None:
        self._session = session

    def get(self, path: str, *, api: str = API_VERSION) -> dict[str, Any] | None:
        """Return a resource; None if there is none."""
        with self._session.talking(f"asking for {path}"):
            response = self._send("GET", _with(path, api))
            if response.status_code == 404:
                return None
            response.raise_for_status()
            return _object(response)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create or update a resource and return it, once Azure has done so."""
        with self._session.talking(f"writing {path}"):
            response = self._send("PUT", _with(path, API_VERSION), body)
            response.raise_for_status()
        return self._finished(path) if response.status_code == 202 else _object(response)

    def post(self, path: str) -> bool:
        """Ask a resource to do something; return whether it was there to be asked."""
        with self._session.talking(f"posting to {path}"):
            response = self._send("POST", _with(path, API_VERSION))
            if response.status_code == 404:
                return False
            response.raise_for_status()
            return True

    def each(self, path: str, query: str = "") -> Iterator[dict[str, Any]]:
        """Yield what a collection holds, page by page; nothing if there is no such collection."""
        link: str | None = _with(path, API_VERSION) + query
        while link:
            with self._session.talking(f"listing {path}"):
                response = self._send("GET", link)
                if response.status_code == 404:
                    return
                response.raise_for_status()
                page = _object(response)
            yield from page.get("value", ())
            link = self._own(page.get("nextLink"))

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> HttpResponse:
        from azure.core.rest import HttpRequest

        client = self._session.once("arm", self._client)
        request = HttpRequest(method, self._session.endpoint + path, json=body)
        response: HttpResponse = client.send_request(request)
        return response

    def _client(self) -> PipelineClient[Any, Any]:
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import (
            BearerTokenCredentialPolicy,
            HeadersPolicy,
            UserAgentPolicy,
        )
        from azure.core.pipeline.transport import RequestsTransport

        session = self._session
        headers = HeadersPolicy({"Accept": "application/json"})
        policies: list[Any] = [UserAgentPolicy("airflow-mlgov"), headers]
        if session.emulated:  # the policy below refuses it, rightly
            headers.add_header("Authorization", f"Bearer {session.connection().password}")
        else:
            scope = f"{session.endpoint}/.default"
            policies.append(BearerTokenCredentialPolicy(session.credential(), scope))
        transport = RequestsTransport(connection_timeout=CONNECT_S, read_timeout=READ_S)
        return PipelineClient(session.endpoint, policies=policies, transport=transport)

    def _finished(self, path: str) -> dict[str, Any]:
        """Return a resource that a 202 promised, as registries do, once it is there.

        The resource itself is looked at: the address in the answer's header may be another server.
        """
        kinds, entry = self._session.kinds, self._session.entry
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            found = self.get(path)
            state = (found or {}).get("properties", {}).get("provisioningState", "Succeeded")
            if state in {"Failed", "Canceled"}:
                raise kinds.refused(f"{entry}: writing {path}: Azure's operation is {state}.")
            if found is not None and state == "Succeeded":
                return found
            time.sleep(_PAUSE_S)
        raise kinds.away(f"{entry}: writing {path}: not finished after {_PATIENCE_S:g} s.")

    def _own(self, link: str | None) -> str | None:
        """Return a link's path; a token goes to no other server."""
        if not link:
            return None
        if not link.startswith(f"{self._session.endpoint}/"):
            raise self._session.kinds.refused(
                f"{self._session.entry}: Azure sent on to {link}, which is another server."
            )
        return link.removeprefix(self._session.endpoint)


def _with(path: str, api: str) -> str:
    return f"{quote(path)}?api-version={api}"


def _object(response: HttpResponse) -> dict[str, Any]:
    from azure.core.exceptions import DecodeError

    if not response.content:
        return {}
    try:
        value = response.json()
    except ValueError as error:
        raise DecodeError("The answer is no JSON", response=response, error=error) from error
    return value if isinstance(value, dict) else {}
