"""Airflow's public REST API, read: what `airflow_mlgov.service.airflow_records` asks for.

Nothing is written, and no more than one page is held at a time.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from airflow_mlgov.errors import (
    AirflowRefusedError,
    AirflowUnavailableError,
    ConfigurationError,
)
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import STEPS, AuditRow, DagRun, Step, TaskRun, TaskTry
from airflow_mlgov.service.audit_rows import EVENTS

PAGE = 100
"""Rows asked for at once; Airflow may give fewer (``[api] maximum_page_limit``)."""

_TIMEOUT_S = 60.0
_MOST_BYTES = 64 * 1024 * 1024
_MOST_DETAIL = 64 * 1024
_AGAIN = frozenset({408, 425, 429})
_READ_TOKEN = "Give the user of the token a role that may read DAGs, runs, tasks and audit log."  # noqa: S105


def checked_address(url: str, where: str) -> str:
    """Return the address of an api-server without a slash at its end.

    Args:
        url: What somebody has set.
        where: Where it is set, to be named if it is none.

    Raises:
        ConfigurationError: It is no address; a retry does not help.
    """
    base = url.rstrip("/")
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            f"{base!r} is no address of an api-server.",
            remedy=f"Name it {where}, as https://airflow.example.com.",
        )
    return base


class AirflowApi:
    """An api-server, seen with somebody's token.

    Args:
        url: From `checked_address`.
        token: Returns a token; called again, once for each request, if Airflow says that the last
            one has ended.
    """

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self._url = url
        self._new_token = token
        self._token = ""

    def version(self) -> str:
        """Return Airflow's version, once it has let us in.

        Raises:
            AirflowUnavailableError: Airflow cannot be reached; a retry may help.
            AirflowRefusedError: The token is worth nothing; a retry does not help.
        """
        self._page("/eventLogs", limit=1)
        return str(self._read("/version")["version"])

    def touched_runs(self, since: datetime) -> Iterator[tuple[str, str]]:
        """Yield DAG and run of the tasks of ours that were changed since."""
        names = "|".join(STEPS)
        path, query = "/dags/~/dagRuns/~/taskInstances", {"updated_at_gte": since.isoformat()}
        for row in self._rows(path, "task_instances", **query, operator_name_pattern=names):
            if _step(row) is not None:
                yield row["dag_id"], row["dag_run_id"]

    def runs_of(self, dag_id: str, since: datetime) -> Iterator[str]:
        """Yield the runs of a DAG that were changed since; none for a DAG that is gone."""
        path = f"/dags/{_part(dag_id)}"
        if self._get(path) is None:
            return
        rows = self._rows(f"{path}/dagRuns", "dag_runs", updated_at_gte=since.isoformat())
        yield from (row["dag_run_id"] for row in rows)

    def run(self, dag_id: str, run_id: str) -> DagRun | None:
        """Return a run with those of its tasks that leave entries, or None if it is gone."""
        path = f"/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"
        found = self._get(path)
        if found is None:
            return None
        rows = self._rows(f"{path}/taskInstances", "task_instances")
        tasks = [self._task(row, step) for row in rows if (step := _step(row)) is not None]
        dated = found.get("logical_date") or found.get("run_after")
        at = datetime.fromisoformat(dated) if dated else None
        return DagRun(dag_id, run_id, found["state"] or "", tuple(tasks), at)

    def changes(self, since: datetime, until: datetime) -> Iterator[AuditRow]:
        """Yield the changes by hand in the audit log between two moments, oldest first."""
        query = {"after": since.isoformat(), "before": until.isoformat(), "order_by": "id"}
        seen, total = 0, 1
        while seen < total:
            page = self._page(
                "/eventLogs", **query, included_events=sorted(EVENTS), limit=PAGE, offset=seen
            )
            rows, total = page["event_logs"], page["total_entries"]
            if not rows and seen < total:
                raise AirflowUnavailableError("Airflow's audit log shrank while it was read.")
            yield from map(_audit_row, rows)
            seen += len(rows)

    def _task(self, row: Mapping[str, Any], step: Step) -> TaskRun:
        task = Source(row["dag_id"], row["dag_run_id"], row["task_id"], row["map_index"])
        fields = row.get("rendered_fields") or {}
        return TaskRun(
            task,
            step,
            tuple(self._tries(row)),
            {name: value for name, value in fields.items() if isinstance(value, str)},
        )

    def _tries(self, row: Mapping[str, Any]) -> Iterator[TaskTry]:
        """Yield the tries of a task; a first one that may not be repeated has none before it."""
        if row["try_number"] > 1 or row["max_tries"] > 0:
            parts = (row["dag_id"], row["dag_run_id"], row["task_id"])
            dag, run, task = map(_part, parts)
            path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/{row['map_index']}/tries"
            known = self._get(path)
            if known is not None:
                # Airflow lists the present try last, but for one that waits to be repeated.
                *earlier, last = map(_try, known["task_instances"])
                if row["state"] == "up_for_retry":
                    earlier, last = [*earlier, last], _try(row)
                yield from sorted(earlier, key=lambda tried: tried.number)
                yield last
                return
        yield _try(row)

    def _rows(self, path: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield every row of a list, page by page; what is added meanwhile moves none of them."""
        cursor: str | None = ""
        while cursor is not None:
            page = self._page(path, **query, cursor=cursor, limit=PAGE, order_by="id")
            yield from page[key]
            cursor = page["next_cursor"]

    def _page(self, path: str, **query: Any) -> dict[str, Any]:
        return self._read(f"{path}?{urlencode(query, doseq=True)}")

    def _read(self, path: str) -> dict[str, Any]:
        found = self._get(path)
        if found is None:
            raise AirflowRefusedError(
                f"{self._url}/api/v2{path} is not there.",
                remedy="Is this the address of an api-server of Airflow 3.3 or later?",
            )
        return found

    def _get(self, path: str) -> dict[str, Any] | None:
        """Return an answer; None if Airflow says that there is no such thing."""
        for is_last in (not self._token, True):
            self._token = self._token or self._new_token()
            headers = {"Authorization": f"Bearer {self._token}"}
            try:
                return send(f"{self._url}/api/v2{path}", headers=headers)
            except _NotFoundError:
                return None
            except _TokenEndedError as error:
                self._token = ""
                if is_last:
                    raise AirflowRefusedError(
                        f"{self._url} takes our token for nothing.", remedy=_READ_TOKEN
                    ) from error
        raise AssertionError


def log_in(url: str, user: str, password: str) -> str:
    """Return a new token for somebody.

    Args:
        url: From `checked_address`.
        user: Name to sign in with.
        password: Its password.

    Raises:
        AirflowUnavailableError: Airflow cannot be reached; a retry may help.
        AirflowRefusedError: Airflow does not know them, or signs nobody in so; a retry does not
            help.
    """
    body = json.dumps({"username": user, "password": password}).encode()
    try:
        answer = send(f"{url}/auth/token", headers={"Content-Type": "application/json"}, body=body)
        return str(answer["access_token"])
    except (_TokenEndedError, _NotFoundError, KeyError) as error:
        raise AirflowRefusedError(
            f"{url}/auth/token gave {user!r} no token.",
            remedy="Check login and password of the connection.",
        ) from error


def send(address: str, *, headers: Mapping[str, str], body: bytes | None = None) -> dict[str, Any]:
    """Return what a server answers; to nobody but the address named are headers and body shown."""
    request = urllib.request.Request(address, body, dict(headers))  # noqa: S310 - checked_address
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=_TIMEOUT_S) as answer:
            found = json.loads(answer.read(_MOST_BYTES))
            if isinstance(found, dict):
                return found
            raise AirflowRefusedError(f"{address} gave no answer of Airflow's API.")
    except urllib.error.HTTPError as error:
        raise _translated(address, error) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise AirflowUnavailableError(
            f"{_server(address)} cannot be reached: {reason}.", remedy="Is the api-server running?"
        ) from error
    except ValueError as error:
        raise AirflowRefusedError(f"{address} gave no answer of Airflow's API: {error}.") from error


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Hands the token to nobody but the address that was named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nothing."""
        return


class _NotFoundError(Exception):
    """Airflow has no such thing."""


class _TokenEndedError(Exception):
    """Airflow takes a token, or a password, for nothing."""


def _translated(address: str, error: urllib.error.HTTPError) -> Exception:
    try:
        detail = str(json.loads(error.read(_MOST_DETAIL))["detail"])
    except (OSError, ValueError, TypeError, KeyError, http.client.HTTPException):
        detail = str(error.reason)
    if error.code == 404:
        return _NotFoundError()
    if error.code == 401:
        return _TokenEndedError()
    said = f"{_server(address)} answers {error.code} to {urlsplit(address).path}: {detail}."
    if error.code >= 500 or error.code in _AGAIN:
        return AirflowUnavailableError(said)
    return AirflowRefusedError(said, remedy=_READ_TOKEN if error.code == 403 else "")


def _server(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _part(text: str) -> str:
    return quote(text, safe="")


def _step(row: Mapping[str, Any]) -> Step | None:
    return STEPS.get(row["operator"] or "") or STEPS.get(row["operator_name"] or "")


def _try(row: Mapping[str, Any]) -> TaskTry:
    ended = row["end_date"]
    at = datetime.fromisoformat(ended) if ended else None
    return TaskTry(row["try_number"], row["state"] or "", at)


def _audit_row(row: Mapping[str, Any]) -> AuditRow:
    try:
        extra = json.loads(row["extra"] or "{}")
    except ValueError:
        extra = {}
    return AuditRow(
        id=row["event_log_id"],
        at=datetime.fromisoformat(row["when"]),
        event=row["event"],
        dag_id=row["dag_id"] or "",
        run_id=row["run_id"] or "",
        task_id=row["task_id"] or "",
        extra=extra if isinstance(extra, dict) else {},
    )
