"""Marquez's HTTP API: one event posted, and what it stored read back.

Source:
    OpenLineage HTTP API; answers of Marquez 0.51 as recorded in `tests/assets/marquez`.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode, urlsplit

from airflow_mlgov.errors import (
    ConfigurationError,
    LineageError,
    LineageRefusedError,
    LineageUnavailableError,
)

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024

_REFUSED = frozenset({400, 413, 422})
_ENTRY = frozenset({401, 403})
_SHOWN = 500

_Found = dict[str, Any]


class MarquezClient:
    """A Marquez, or whatever stands before it; each thread keeps one connection.

    An answer that refuses the event is told apart from one that refuses us (a wrong token, a wrong
    address) or that says nothing about the event: only the first is a `LineageRefusedError`. After
    a `LineageUnavailableError` of `post` the event may have been stored all the same.

    Args:
        url: ``http://host:port`` or ``https://``, with a path if it stands under one, without
            ``/api/v1``.
        auth_header: Value of the ``Authorization`` header (``Bearer ...``); empty sends none.
        timeout_s: For each request, from connecting to the last byte, in seconds.

    Raises:
        ConfigurationError: The address is none; a retry does not help.
    """

    def __init__(self, url: str, auth_header: str = "", timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url.rstrip("/"))
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = _port(parts.netloc)
        if parts.scheme not in {"http", "https"} or not self._host or "@" in parts.netloc:
            raise ConfigurationError(
                "The address of Marquez is none.",
                remedy="Write it as https://marquez.example.com, without user or password.",
            )
        self.url = url.rstrip("/")
        self._path = parts.path
        self._headers = {"Accept": "application/json", "User-Agent": "airflow-mlgov"}
        if auth_header:
            self._headers["Authorization"] = auth_header
        self._timeout_s = timeout_s
        self._local = threading.local()

    def post(self, event: bytes) -> None:
        """Hand over an event; returning means that Marquez has stored it.

        Args:
            event: JSON of an OpenLineage event.

        Raises:
            LineageRefusedError: Marquez, or the proxy before it, will never take this event; with
                its own words. A retry does not help.
            LineageUnavailableError: No answer, or one that says nothing about the event; a retry
                may help.
        """
        status, body = self._ask("POST", "/lineage", event)
        if status == 201:
            return
        if status in _REFUSED or (status == 500 and _code(body) == 400):
            raise LineageRefusedError(f"{self.url} refuses the event with {status}: {_said(body)}.")
        raise self._failed("POST /lineage", status, body)

    def run(self, run_id: str) -> _Found | None:
        """Return a run (state, times, versions of inputs and outputs, facets), or None.

        Raises:
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        return self._get(f"/jobs/runs/{_part(run_id)}")

    def run_facets(self, run_id: str, kind: Literal["run", "job"] = "run") -> _Found:
        """Return the facets of a run, or of its job as this run saw it; none of an unknown run.

        Raises:
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        found = self._get(f"/jobs/runs/{_part(run_id)}/facets", type=kind)
        return dict(self._of(found, "facets"))

    def upstream(self, run_id: str, depth: int = 20) -> list[_Found]:
        """Return the runs that a run depends on, itself first; none of an unknown run.

        Args:
            run_id: Where to begin.
            depth: How many runs to go back, at least 1.

        Raises:
            LineageError: Marquez works, and fails at this question: some run on the way read what
                no run had written. It will never answer it; a retry does not help.
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        query = {"runId": run_id, "depth": depth}
        status, body = self._ask("GET", f"/runlineage/upstream?{urlencode(query)}")
        if status == 500:
            self.run(run_id)
            # It answers again: was it the question, or was its database away for a moment?
            status, body = self._ask("GET", f"/runlineage/upstream?{urlencode(query)}")
            if status == 500:
                raise LineageError(
                    f"{self.url} answers 500 to what run {run_id} depends on: {_said(body)}.",
                    remedy="A run on the way read a dataset that no run had written before. "
                    "Marquez cannot heal that; ask the outbox.",
                )
        return list(self._of(self._checked("GET /runlineage/upstream", status, body), "runs"))

    def dataset(self, namespace: str, name: str) -> _Found | None:
        """Return a dataset as the last event left it, or None.

        Raises:
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        return self._get(f"/namespaces/{_part(namespace)}/datasets/{_part(name)}")

    def dataset_versions(self, namespace: str, name: str, limit: int = 100) -> list[_Found]:
        """Return the versions of a dataset, newest first; none of an unknown one.

        Raises:
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        path = f"/namespaces/{_part(namespace)}/datasets/{_part(name)}/versions"
        return list(self._of(self._get(path, limit=limit), "versions"))

    def events(self, limit: int = 100, offset: int = 0) -> list[_Found]:
        """Return events as they came in, the latest event time first.

        Marquez adds facets that are null, and hides events from the year 2030 on.

        Raises:
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help.
        """
        return list(self._of(self._get("/events/lineage", limit=limit, offset=offset), "events"))

    def check(self) -> str:
        """Ask for its namespaces; return a sentence about them.

        Raises:
            LineageUnavailableError: Marquez does not answer, or fails; a retry may help, unless one
                event with a name that it cannot read back has broken its lists for good.
        """
        count = len(self._of(self._get("/namespaces"), "namespaces"))
        return f"Marquez answers, with {count} namespaces."

    def is_healthy(self) -> bool:
        """Return whether Marquez answers and its lists can be read."""
        try:
            self.check()
        except LineageError:
            return False
        return True

    def close(self) -> None:
        """Close the connection of this thread; the next request opens another."""
        connection = vars(self._local).pop("connection", None)
        if connection is not None:
            connection.close()

    def _get(self, path: str, **query: Any) -> _Found | None:
        asked = f"{path}?{urlencode(query)}" if query else path
        return self._checked(f"GET {path}", *self._ask("GET", asked))

    def _of(self, found: _Found | None, key: str) -> Any:
        """Return a part of an answer, nothing of what is not there; anything else is no answer."""
        if found is None:
            return ()
        if not isinstance(found.get(key), list | dict):
            raise LineageUnavailableError(
                f"{self.url} gave an answer without {key}.", remedy="Is it a Marquez?"
            )
        return found[key]

    def _checked(self, asked: str, status: int, body: bytes) -> _Found | None:
        """Return an answer; None if Marquez, not somebody before it, says that there is none."""
        found = _object(body)
        if status == 200 and found is not None:
            return found
        if status == 404 and _code(body) == 404:
            return None
        raise self._failed(asked, status, body)

    def _failed(self, asked: str, status: int, body: bytes) -> LineageUnavailableError:
        remedy = ""
        if status in _ENTRY:
            remedy = "Check the token of the connection: it is not let in."
        elif status < 500:
            remedy = "Is this the address of a Marquez?"
        said = f"{self.url} answers {status} to {asked}: {_said(body)}."
        return LineageUnavailableError(said, remedy=remedy)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = self._connection()
        try:
            with _Deadline(connection, self._timeout_s) as deadline:
                answer = _exchange(
                    connection, method, f"{self._path}/api/v1{path}", headers=headers, body=body
                )
        except (OSError, http.client.HTTPException) as error:
            self.close()
            is_late = deadline.is_over or isinstance(error, TimeoutError)
            said = f"no answer in {self._timeout_s:g} seconds" if is_late else str(error)
            raise LineageUnavailableError(f"{self.url} cannot be used: {said}.") from error
        if deadline.is_over or len(answer[1]) > MAX_ANSWER_BYTES:
            self.close()
            raise LineageUnavailableError(f"{self.url} did not send the whole of its answer.")
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        """Return a connection that the other end has not closed, as far as one can see."""
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if kept is not None and kept.sock is not None:
            if not _is_readable(kept.sock):
                return kept
            self.close()
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        made = kind(self._host, self._port, timeout=self._timeout_s)
        self._local.connection = made
        return made


class _Deadline:
    """Shuts a connection down when the time is over: a socket's timeout starts anew each byte."""

    def __init__(self, connection: http.client.HTTPConnection, seconds: float) -> None:
        self.is_over = False
        self._connection = connection
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def _cut(self) -> None:
        self.is_over = True
        connected = self._connection.sock
        if connected is not None:
            with suppress(OSError):  # TLS's own shutdown is not for another thread
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
) -> tuple[int, bytes]:
    connection.request(method, target, body, dict(headers))
    response = connection.getresponse()
    found = response.read(MAX_ANSWER_BYTES + 1)
    if response.length and len(found) <= MAX_ANSWER_BYTES:
        raise http.client.IncompleteRead(found, response.length)
    return response.status, found


def _is_readable(connected: socket.socket) -> bool:
    """Return whether an idle connection has something to say: that it is at its end."""
    try:
        waiting = select.poll()
        waiting.register(connected, select.POLLIN)
        return bool(waiting.poll(0))
    except (OSError, ValueError):
        return True


def _port(netloc: str) -> int | None:
    try:
        return urlsplit(f"//{netloc}").port
    except ValueError as error:
        raise ConfigurationError(
            "The port of Marquez's address is none.", remedy="Write http://marquez:5000."
        ) from error


def _part(text: str) -> str:
    return quote(text, safe="")


def _object(body: bytes) -> _Found | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _code(body: bytes) -> Any:
    return (_object(body) or {}).get("code")


def _said(body: bytes) -> str:
    """Return Marquez's own words, without those of Java about where it read them."""
    found = _object(body)
    if found is None:
        return "nothing that can be read" if body else "nothing"
    words = found.get("message") or "; ".join(map(str, found.get("errors") or ())) or "nothing"
    return str(words).partition("\n")[0][:_SHOWN].rstrip(".")
