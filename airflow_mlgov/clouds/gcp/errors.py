"""What Google's libraries raise, in our words: may a retry help, and what is there to do."""

from __future__ import annotations

import re

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.policy.platforms_file import PlatformTerms, RegistryTerms

_CALL = re.compile(r"^(GET|POST|PATCH|PUT|DELETE) \S+: ")
_QUOTA = ("exceed quota limits", "quotas are exceeded")
_HIDDEN_BY_GRPC = "Getting metadata from plugin failed"
_CLOCK = ("timeframe", "used too early", "clock", "iat and exp")


def is_stale(error: Exception) -> bool:
    """Return whether credentials are no longer taken, so that clients have to be made anew."""
    from google.api_core.exceptions import Unauthorized
    from google.auth.exceptions import InvalidOperation

    return isinstance(error, Unauthorized | InvalidOperation)


def translated(
    error: Exception,
    terms: PlatformTerms | RegistryTerms,
    about: str,
    refused: type[MlgovError],
    unavailable: type[MlgovError],
) -> MlgovError | None:
    """Return our error for one of Google's; None for what is none of theirs.

    Args:
        error: As it was raised.
        terms: Entry that was used.
        about: What was being done.
        refused: For what no retry helps against.
        unavailable: For what one may.
    """
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    what = _CALL.sub("", getattr(error, "message", None) or str(error)).rstrip(".")
    said = f"{about} ({terms.name}: {terms.account}, {terms.region})"
    if is_stale(error):
        return unavailable(
            f"Google Cloud does not take the token for {said}: {what}.",
            remedy="A new one is taken by the next try. If this stays, look at Airflow connection "
            f"{terms.connection!r} and at this machine's clock.",
        )
    if isinstance(error, GoogleAuthError) or _HIDDEN_BY_GRPC in what:
        remedy = _auth_remedy(error, terms)
        kind = refused if remedy else unavailable
        return kind(f"Google Cloud gives no token for {said}: {what}.", remedy=remedy)
    if _may_pass(error):
        return unavailable(f"Google Cloud cannot be used for {said}: {what}.")
    if isinstance(error, GoogleAPIError) or _is_transfer(error):
        remedy = _remedy(error, what, terms)
        return refused(f"Google Cloud refuses {said}: {what}.", remedy=remedy)
    return None


def _auth_remedy(error: Exception, terms: PlatformTerms | RegistryTerms) -> str:
    """Return what to do about credentials; nothing if they may work later."""
    from google.auth import exceptions as auth

    if any(word in str(error) for word in _CLOCK):
        return "Set this machine's clock: Google takes a token only within minutes of its time."
    if _HIDDEN_BY_GRPC in str(error):  # gRPC makes a 503 of whatever went wrong
        return "" if "invalid_grant" not in str(error) else _credentials_remedy(terms)
    passing = auth.TransportError | auth.TimeoutError
    if isinstance(error, passing) or getattr(error, "retryable", False):
        return ""
    return _credentials_remedy(terms)


def _credentials_remedy(terms: PlatformTerms | RegistryTerms) -> str:
    return f"Look at the credentials of Airflow connection {terms.connection!r}."


def _may_pass(error: Exception) -> bool:
    import requests
    from google.api_core import exceptions as api

    if isinstance(error, api.TooManyRequests):
        return not _is_quota(str(error))
    if isinstance(error, api.MethodNotImplemented):
        return False
    if isinstance(error, api.Conflict) and '"ABORTED"' in getattr(error.response, "text", ""):
        return True  # REST knows 409 only
    passing = api.ServerError | api.Aborted | api.Cancelled | api.RetryError
    if isinstance(error, passing | requests.RequestException | ConnectionError | TimeoutError):
        return True
    return _is_transfer(error) and _status(error) not in range(400, 429)


def _is_quota(what: str) -> bool:
    return any(words in what.lower() for words in _QUOTA)


def _is_transfer(error: Exception) -> bool:
    """Whether Cloud Storage's own code for moving files raised it."""
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    return isinstance(error, DataCorruption | InvalidResponse)


def _status(error: Exception) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def _remedy(error: Exception, what: str, terms: PlatformTerms | RegistryTerms) -> str:
    from google.api_core import exceptions as api

    if isinstance(error, api.Forbidden):
        return (
            f"Give who Airflow connection {terms.connection!r} stands for the permission; "
            "`airflow mlgov doctor` lists those that are missing."
        )
    if _is_quota(what):
        return "Ask Google for more of this quota, or choose another machine type or region."
    if isinstance(error, api.NotFound):
        return f"Look at the project, region and names of entry {terms.name} in the platform file."
    return ""
