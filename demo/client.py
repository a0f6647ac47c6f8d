"""What a person does in Airflow's web page, done through its REST API with that person's token."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
Progress = Callable[[str], None]


class ApiError(RuntimeError):
    """Airflow refused a request.

    Attributes:
        status: HTTP status.
        detail: What Airflow said.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"HTTP {status}: {detail}")
        self.status = status
        self.detail = detail


class WaitError(RuntimeError):
    """What was waited for did not come; the message says what was there instead."""


@dataclass
class AirflowClient:
    """One signed-in person.

    Attributes:
        url: Address of the api-server.
        user: Name to sign in with.
        password: Its password.
    """

    url: str
    user: str
    password: str
    _http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self._http = httpx.Client(base_url=self.url, timeout=60)
        token = self.call(
            "POST", "/auth/token", {"username": self.user, "password": self.password}
        )["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """Send one request.

        Args:
            method: HTTP method.
            path: Path from the root.
            body: Sent as JSON.
            **query: Query parameters.

        Returns:
            The decoded answer; None if there is none.

        Raises:
            ApiError: Any status from 400.
        """
        answer = self._http.request(method, path, json=body, params=query)  # type: ignore[arg-type]
        if answer.status_code >= 400:
            raise ApiError(answer.status_code, _detail(answer))
        return answer.json() if answer.content else None

    # Runs

    def trigger(self, dag: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run and return its id."""
        body = {"logical_date": None, "conf": conf or {}}
        return str(self.call("POST", f"/api/v2/dags/{dag}/dagRuns", body)["dag_run_id"])

    def run_state(self, dag: str, run: str) -> str:
        """State of a run."""
        return str(self.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"])

    def set_run_state(self, dag: str, run: str, state: str) -> None:
        """Mark a run, as the page's button does."""
        self.call("PATCH", f"/api/v2/dags/{dag}/dagRuns/{run}", {"state": state})

    def delete_run(self, dag: str, run: str) -> None:
        """Delete a run with its task instances."""
        self.call("DELETE", f"/api/v2/dags/{dag}/dagRuns/{run}")

    def wait_for_dags(self, dags: Iterable[str], timeout_s: float = 120) -> None:
        """Wait until every DAG is known and can be triggered.

        Raises:
            WaitError: A DAG file does not import, or the time is up.
        """
        end = time.monotonic() + timeout_s
        missing = set(dags)
        while missing and time.monotonic() < end:
            known = self.call("GET", "/api/v2/dags", limit=100)["dags"]
            missing -= {dag["dag_id"] for dag in known}
            errors = self.call("GET", "/api/v2/importErrors")["import_errors"]
            if errors and missing:
                raise WaitError("\n".join(f"{e['filename']}:\n{e['stack_trace']}" for e in errors))
            time.sleep(0.2 if missing else 0)
        if missing:
            raise WaitError(f"no such DAG after {timeout_s:.0f} s: {', '.join(sorted(missing))}")

    # Task instances

    def _task_path(self, dag: str, run: str, task: str) -> str:
        return f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}"

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Every task instance of a run by task id."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances"
        return {ti["task_id"]: ti for ti in self.call("GET", path, limit=100)["task_instances"]}

    def task(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """One task instance."""
        return dict(self.call("GET", self._task_path(dag, run, task)))

    def mark(self, dag: str, run: str, task: str, state: str) -> None:
        """Mark one task instance, as the page's button does."""
        self.call("PATCH", self._task_path(dag, run, task), {"new_state": state})

    def mark_bulk(self, dag: str, run: str, tasks: Iterable[str], state: str) -> dict[str, Any]:
        """Mark several task instances with one request.

        Returns:
            The answer; it may hold errors for single entities although the status is 200.
        """
        entities = [{"task_id": task, "new_state": state} for task in tasks]
        body = {"actions": [{"action": "update", "entities": entities}]}
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances"
        return dict(self.call("PATCH", path, body) or {})

    def delete_task(self, dag: str, run: str, task: str) -> None:
        """Delete a task instance."""
        self.call("DELETE", self._task_path(dag, run, task))

    def clear(self, dag: str, run: str, task: str, *, downstream: bool = False) -> list[str]:
        """Clear a task instance so that it runs again.

        Returns:
            Ids of the tasks cleared.
        """
        body = {
            "dry_run": False,
            "dag_run_id": run,
            "task_ids": [task],
            "only_failed": False,
            "include_downstream": downstream,
            "reset_dag_runs": True,
        }
        answer = self.call("POST", f"/api/v2/dags/{dag}/clearTaskInstances", body)
        return [ti["task_id"] for ti in answer["task_instances"]]

    def log(self, dag: str, run: str, task: str, try_number: int = 1) -> str:
        """The task's log, one event a line."""
        path = f"{self._task_path(dag, run, task)}/logs/{try_number}"
        try:
            content = self.call("GET", path, full_content=True).get("content", [])
        except ApiError as error:
            return f"(no log: {error})"
        return "\n".join(_line(event) for event in content)

    def wait_for_task(
        self,
        dag: str,
        run: str,
        task: str,
        states: Iterable[str] = ENDED,
        *,
        timeout_s: float = 180,
        progress: Progress | None = None,
    ) -> str:
        """Wait until a task instance is in one of these states.

        Args:
            dag: DAG id.
            run: Run id.
            task: Task id.
            states: What to wait for.
            timeout_s: Longest wait.
            progress: Told each task of the run that ends or begins to wait.

        Returns:
            The state that it is in.

        Raises:
            WaitError: It ended in another state, or the time is up; with the log's end.
        """
        wanted = frozenset(states)
        end = time.monotonic() + timeout_s
        seen: dict[str, str] = {}
        state = ""
        while time.monotonic() < end:
            instances = self.tasks(dag, run)
            if progress is not None:
                _report(instances, seen, progress)
            state = str(instances.get(task, {}).get("state"))
            if state in wanted:
                return state
            if state in ENDED:
                break
            time.sleep(0.2)
        raise WaitError(
            f"{dag}/{run}/{task} is {state!r}, waited for {'/'.join(sorted(wanted))}.\n"
            + self.failures(dag, run)
        )

    def failures(self, dag: str, run: str, lines: int = 40) -> str:
        """The end of the logs of the failed tasks of a run."""
        parts = []
        for task, instance in self.tasks(dag, run).items():
            if instance["state"] in ("failed", "up_for_retry"):
                text = self.log(dag, run, task, max(1, instance["try_number"]))
                parts.append(f"--- log of {task}\n" + "\n".join(text.splitlines()[-lines:]))
        return "\n".join(parts)

    # Human in the loop

    def form(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """The form of a waiting task: options, subject, body, params, whether it is answered."""
        return dict(self.call("GET", f"{self._task_path(dag, run, task)}/-1/hitlDetails"))

    def answer(
        self, dag: str, run: str, task: str, choice: str, params: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Answer a form.

        Raises:
            ApiError: 403 not asked, 409 answered already, 400 no such option, 404 no form.
        """
        body = {"chosen_options": [choice], "params_input": params or {}}
        path = f"{self._task_path(dag, run, task)}/-1/hitlDetails"
        return dict(self.call("PATCH", path, body))

    # XCom and audit log

    def xcom(self, dag: str, run: str, task: str, key: str = "return_value") -> Any:
        """The value of one XCom entry, decoded."""
        path = f"{self._task_path(dag, run, task)}/xcomEntries/{key}"
        return self.call("GET", path, deserialize=False, stringify=False)["value"]

    def create_xcom(self, dag: str, run: str, task: str, key: str, value: object) -> None:
        """Write a new XCom entry."""
        path = f"{self._task_path(dag, run, task)}/xcomEntries"
        self.call("POST", path, {"key": key, "value": value, "map_index": -1})

    def update_xcom(self, dag: str, run: str, task: str, key: str, value: object) -> None:
        """Overwrite an XCom entry."""
        path = f"{self._task_path(dag, run, task)}/xcomEntries/{key}"
        self.call("PATCH", path, {"value": value, "map_index": -1})

    def events(self, dag: str, run: str, task: str | None = None) -> list[dict[str, Any]]:
        """Rows of Airflow's audit log for a run, oldest first."""
        query: dict[str, object] = {"dag_id": dag, "run_id": run, "limit": 100}
        if task is not None:
            query["task_id"] = task
        rows = self.call("GET", "/api/v2/eventLogs", **query)["event_logs"]
        return sorted(rows, key=lambda row: row["event_log_id"])


@dataclass
class GateWatch:
    """Tells when a parked task may be answered.

    Airflow 3.3.2 fails a task that is answered too soon after it parks: the answer makes it run
    again, and then the executor's report that the parked process has ended is taken for the end
    of the new one ("state mismatch"). The window is as long as the worker takes to notice that
    its process has ended: up to ``[workers] min_heartbeat_interval``, 5 s by default, so that a
    quick person meets it too. No column and no endpoint shows whether the scheduler has read the
    report; its log does, in one line "TaskInstance Finished: ... state=awaiting_input" a round.

    Attributes:
        client: Anybody who may read.
        scheduler_log: Log file of the scheduler.
    """

    client: AirflowClient
    scheduler_log: Path

    def wait(
        self,
        dag: str,
        run: str,
        task: str,
        *,
        timeout_s: float = 300,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Wait until a task waits for a person and an answer is safe.

        Returns:
            The form to answer.

        Raises:
            WaitError: The task ended instead, or the time is up.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            left = end - time.monotonic()
            self.client.wait_for_task(
                dag, run, task, ["awaiting_input"], timeout_s=left, progress=progress
            )
            # An answered form on a waiting task is that of the round before.
            form = self.client.form(dag, run, task)
            if not form["response_received"] and self._is_reported(dag, run, task):
                return form
            time.sleep(0.1)
        raise WaitError(f"the scheduler has not reported {dag}/{run}/{task} as parked")

    def _is_reported(self, dag: str, run: str, task: str) -> bool:
        parked = [e for e in self.client.events(dag, run, task) if e["event"] == "awaiting_input"]
        if not parked:
            return False
        parked_at = datetime.fromisoformat(parked[-1]["when"])
        pattern = re.compile(
            rf"TaskInstance Finished: dag_id={re.escape(dag)}, task_id={re.escape(task)},"
            rf" run_id={re.escape(run)},.* state=awaiting_input,"
        )
        for line in _lines_backwards(self.scheduler_log):
            at = _time_of(line)
            if at is not None and at < parked_at:
                return False
            # A scheduler that started after the task had parked has nothing left to read about it.
            if at is not None and (pattern.search(line) or "Starting the scheduler " in line):
                return True
        return False


def _lines_backwards(path: Path, size: int = 1 << 20) -> Iterator[str]:
    """Yield the lines of a file, the last first, reading no more of it than is asked for."""
    with path.open("rb") as log:
        end, rest = log.seek(0, 2), b""
        while end:
            start = max(0, end - size)
            log.seek(start)
            lines = (log.read(end - start) + rest).split(b"\n")
            rest = lines.pop(0) if start else b""  # its beginning is in the block before
            for line in reversed(lines):
                yield line.decode("utf-8", "replace")
            end = start


def _time_of(line: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(line.split(" ", 1)[0])
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json().get("detail", answer.text)
    except ValueError:
        return answer.text[:500]
    return detail if isinstance(detail, str) else str(detail)


def _line(event: Any) -> str:
    if not isinstance(event, dict):
        return str(event)
    rest = {k: v for k, v in event.items() if k not in ("event", "timestamp", "level", "logger")}
    extra = f" {rest}" if rest.get("error_detail") else ""
    return f"{event.get('level', '')} {event.get('event', '')}{extra}".strip()


def _report(instances: dict[str, dict[str, Any]], seen: dict[str, str], progress: Progress) -> None:
    # What had ended before the first look was told by an earlier wait.
    told = {"awaiting_input", "running", "up_for_retry"} | (ENDED if seen else set())
    for task, instance in instances.items():
        state = str(instance["state"])
        if seen.get(task) != state and state in told:
            seconds = instance.get("duration")
            progress(
                f"{task}: {state}" + (f" ({seconds:.1f} s)" if seconds and state in ENDED else "")
            )
        seen[task] = state
