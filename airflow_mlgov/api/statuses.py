"""Which HTTP status an error of ours is."""

from __future__ import annotations

from airflow_mlgov.errors import (
    GuardRefusedError,
    NotEntitledError,
    NotInForceError,
    UnknownSubjectError,
)

_STATUS: dict[type[Exception], int] = {
    NotEntitledError: 403,
    UnknownSubjectError: 404,
    NotInForceError: 409,
    GuardRefusedError: 409,
}


def status_of(error: Exception) -> int:
    """Return the status: 503 for what may go better later, 500 for what nobody expects."""
    return _STATUS.get(type(error), 503 if getattr(error, "retryable", False) else 500)
