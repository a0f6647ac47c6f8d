"""An Azure connection of Airflow: the clients that are made of it, and what their errors mean."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from airflow_mlgov.errors import ConfigurationError, MlgovError

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from azure.core.credentials import TokenCredential

PUBLIC_ENDPOINT = "https://management.azure.com"
CONNECT_S = 10
READ_S = 60

# They give every request a dozen lines of the task's log; the provider's own hooks stop them too.
_CHATTY = ("azure.core.pipeline.policies.http_logging_policy", "azure.identity")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_CLOCK = re.compile(r"AADSTS(?:700024|500133)|RequestTimeTooSkewed|Request date header too old")
_QUOTA = re.compile(r"quota|ClusterMinNodesExceedCoreQuota|limit.?exceeded", re.IGNORECASE)
_SECRETS = re.compile(r"(?i)\b(sig|signature|secret|password|accountkey|bearer)([=: ]+)[^&\s\"']+")
_PASSING = frozenset({408, 429, *range(500, 600)})

T = TypeVar("T")


class Kinds(NamedTuple):
    """Which errors an adapter raises.

    Attributes:
        refused: No retry helps.
        away: A retry may help.
    """

    refused: type[MlgovError]
    away: type[MlgovError]


def is_loopback(url: str) -> bool:
    """Return whether an address is of this machine, without encryption: an emulator's.

    Raises:
        ConfigurationError: It is without encryption and of another machine.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        return False
    if parts.hostname not in _LOOPBACK:
        raise ConfigurationError(
            f"{url} is without encryption: credentials are not sent there.", remedy="Use https."
        )
    return True


class AzureSession:
    """The clients of one entry of the platform file, each made once and again after a refusal.

    Args:
        entry: How the entry is named in errors.
        connection: Airflow connection of type ``azure``.
        endpoint: Address of the resource manager; empty for the public one. One of this machine
            without encryption is an emulator: it gets the connection's password as its token.
        kinds: Errors to raise.

    Raises:
        ConfigurationError: The endpoint is without encryption and elsewhere.
    """

    def __init__(self, entry: str, connection: str, endpoint: str, kinds: Kinds) -> None:
        self.entry = entry
        self.endpoint = (endpoint or PUBLIC_ENDPOINT).rstrip("/")
        self.emulated = is_loopback(self.endpoint)
        self.kinds = kinds
        self._connection = connection
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()

        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return a client by its name, made if there is none."""
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            client: T = self._made[name]
            return client

    @contextmanager
    def talking(self, about: str) -> Iterator[None]:
        """Translate what goes wrong, once; after an expired token, make clients anew.

        Args:
            about: What is asked, for errors; a job's name belongs there.
        """
        from azure.core.exceptions import AzureError

        try:
            yield
        except AzureError as error:
            raise self._translated(error, about) from error

    def connection(self) -> Connection:
        """Return the Airflow connection; it raises `kinds.refused` if there is none."""
        from airflow.providers.microsoft.azure.hooks.base_azure import AzureBaseHook
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            found: Connection = AzureBaseHook.get_connection(self._connection)
        except AirflowNotFoundException as error:
            raise self.kinds.refused(
                f"{self.entry}: there is no Airflow connection {self._connection!r}.",
                remedy="Add one of type azure, or correct 'connection' in the platform file.",
            ) from error
        if found.conn_type != AzureBaseHook.conn_type:
            raise self.kinds.refused(
                f"{self.entry}: Airflow connection {self._connection!r} is of type "
                f"{found.conn_type!r}.",
                remedy="Use a connection of type azure.",
            )
        return found

    def credential(self) -> TokenCredential:
        """Return the credential of the connection, as the Azure provider's hook makes it."""
        return self.once("credential", self._credential)

    def _credential(self) -> TokenCredential:
        from airflow.providers.microsoft.azure.hooks.base_azure import AzureBaseHook

        connection = self.connection()
        # Without it the hook gives credentials of a library that clients of today do not take.
        connection.extra = json.dumps(
            {**connection.extra_dejson, "use_azure_identity_object": True}
        )
        hook = AzureBaseHook(conn_id=self._connection)
        return cast("TokenCredential", hook.get_credential(conn=connection))

    def _translated(self, error: Exception, about: str) -> MlgovError:
        from azure.core.exceptions import (
            ClientAuthenticationError,
            IncompleteReadError,
            ServiceRequestError,
            ServiceResponseError,
        )

        status = _status(error)
        said = f"{self.entry}: {about}: {_text(error)}"
        if _CLOCK.search(said):
            return self.kinds.refused(
                f"{said}.", remedy="Set this machine's clock: Azure's differs too much."
            )
        if isinstance(error, ServiceRequestError | ServiceResponseError | IncompleteReadError):
            return self.kinds.away(f"{said}.", remedy="Check that this machine reaches Azure.")
        if status in _PASSING:
            return self.kinds.away(f"{said} (HTTP {status}).")
        signing_in = isinstance(error, ClientAuthenticationError) and not _of_service(error)
        if status == 401 and not signing_in:
            with self._lock:
                self._made.clear()
            return self.kinds.away(f"{said} (HTTP 401): the token is refused, or has expired.")
        return self.kinds.refused(f"{said}.", remedy=self._remedy(said, status, signing_in))

    def _remedy(self, said: str, status: int, signing_in: bool) -> str:
        if signing_in:
            return f"Check tenant, client and secret of Airflow connection {self._connection!r}."
        if _QUOTA.search(said):
            return "A quota is exceeded: ask Azure for more, or use another instance type."
        if status == 403:
            return "Give its identity the role of docs/how-to/train-on-azure.md."
        return ""


def _status(error: Exception) -> int:
    response = getattr(error, "response", None)
    return int(getattr(error, "status_code", None) or getattr(response, "status_code", None) or 0)


def _of_service(error: Exception) -> bool:
    """Whether storage has refused, and not the sign-in service: only storage gives such a code."""
    return hasattr(error, "error_code")


def _code(error: Exception) -> str:
    told = getattr(error, "error", None)
    return str(getattr(error, "error_code", None) or getattr(told, "code", None) or "")


def _text(error: Exception) -> str:
    message = " ".join(str(getattr(error, "message", None) or error).split())
    code = _code(error)
    text = message if not code or code in message else f"{code}: {message}"
    return _SECRETS.sub(r"\1\2***", text)[:500].rstrip(".")
