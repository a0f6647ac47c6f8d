"""Telling the api-server something, with the user's own token."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerUnavailableError,
    MlgovError,
    NotEntitledError,
    NotInForceError,
    UnknownSubjectError,
)
from airflow_mlgov.hooks.airflow_api import NoRedirect, checked_address

TOKEN_VARIABLE = "AIRFLOW_CLI_TOKEN"  # noqa: S105 - where it is, not what it is
"""Where the token stands: an argument would show in the list of processes."""

_TIMEOUT_S = 60.0
_MOST_BYTES = 64 * 1024
_ERRORS: dict[int, type[MlgovError]] = {
    403: NotEntitledError,
    404: UnknownSubjectError,
    409: NotInForceError,
    503: LedgerUnavailableError,
}


def tell_api_server(url: str | None, *path: str, **said: str | int) -> dict[str, Any]:
    """Post what somebody says to our app in the api-server and return its answer.

    Args:
        url: Address of the api-server; None for ``[api] base_url``.
        path: Parts of the path under ``/mlgov/api``.
        **said: ``reason`` and what else the route takes.

    Raises:
        ConfigurationError: There is no token, it has ended, or the address is not an api-server's
            with our plugin; a retry does not help.
        NotEntitledError: The user may not.
        UnknownSubjectError: The api-server does not know the model or request.
        NotInForceError: The model is not stopped, the finding is not open.
        LedgerUnavailableError: The api-server cannot write the ledger now; a retry may help.
    """
    address = (
        f"{api_server_address(url)}/mlgov/api/{'/'.join(quote(part, safe='') for part in path)}"
    )
    headers = {"Authorization": f"Bearer {cli_token()}", "Content-Type": "application/json"}
    body = json.dumps(said).encode()
    request = urllib.request.Request(address, body, headers, method="POST")  # noqa: S310
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=_TIMEOUT_S) as answer:
            return dict(json.loads(answer.read(_MOST_BYTES)))
    except urllib.error.HTTPError as error:
        raise _translated(address, error) from error
    except (OSError, ValueError, TypeError, http.client.HTTPException) as error:
        raise ConfigurationError(
            f"{address} gave no answer of airflow-mlgov's: {error}.",
            remedy="Check --url, and that the api-server runs with airflow-mlgov installed.",
        ) from error


def api_server_address(url: str | None) -> str:
    """Return the address of the api-server.

    Args:
        url: What the user has named; None for ``[api] base_url``.

    Raises:
        ConfigurationError: Neither is an address; a retry does not help.
    """
    from airflow.configuration import conf

    base = url or conf.get("api", "base_url", fallback="") or ""
    return checked_address(base, "with --url or in [api] base_url")


def cli_token() -> str:
    """Return the user's own token.

    Raises:
        ConfigurationError: There is none, or it is no token; a retry does not help.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token.isascii() or not token.isprintable() or not token:
        raise ConfigurationError(
            f"There is no token in {TOKEN_VARIABLE}.",
            remedy=f"Get one for yourself (POST /auth/token) and set {TOKEN_VARIABLE} to it.",
        )
    return token


def _translated(address: str, error: urllib.error.HTTPError) -> MlgovError:
    """Return the error that the api-server meant."""
    try:
        said = str(json.loads(error.read(_MOST_BYTES))["detail"])
    except (OSError, ValueError, TypeError, KeyError, http.client.HTTPException):
        said = error.reason
    if error.code == 401:
        return ConfigurationError(
            f"{address}: {said}.", remedy=f"Put a new token into {TOKEN_VARIABLE}."
        )
    known = _ERRORS.get(error.code)
    return known(said) if known else ConfigurationError(f"{address}: {error.code} {said}")
