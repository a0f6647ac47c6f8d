"""An Airflow that says what it is told to say.

It cannot prove that the real one says so: `tests/integration/test_airflow_api.py` and
`tests/e2e/test_reconcile.py` do.
"""

from __future__ import annotations

from dataclasses import replace

from airflow_mlgov.errors import AirflowRefusedError, AirflowUnavailableError
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import AuditRow, DagRun, Step, TaskRun, TaskTry


class ToldAirflow:
    def __init__(self, clock, dag_id: str = "retail_pd") -> None:
        self.clock, self.dag_id = clock, dag_id
        self.runs: dict[tuple[str, str], DagRun] = {}
        self.rows: list[AuditRow] = []
        self.asked_since: list = []
        self.forbidden: set[str] = set()
        self.down_after: int | None = None
        self.before_changes = lambda: None

    def tell(self, task_id: str, step: Step, *states: str, run="run-1", map_index=-1, **told):
        """Add a task with a state for each of its tries, or replace it."""
        numbers = told.get("numbers") or range(1, len(states) + 1)
        ended_at = told.get("ended_at", self.clock.now())
        tries = tuple(
            TaskTry(number, state, ended_at) for number, state in zip(numbers, states, strict=True)
        )
        source = Source(self.dag_id, run, task_id, map_index)
        task = TaskRun(source, step, tries, told.get("fields", {}))
        known = self.runs.get((self.dag_id, run), DagRun(self.dag_id, run, "success", ()))
        others = tuple(t for t in known.tasks if t.task != source)
        self.runs[self.dag_id, run] = replace(known, tasks=(*others, task))

    def end(self, state: str, run="run-1") -> None:
        self.runs[self.dag_id, run] = replace(self.runs[self.dag_id, run], state=state)

    def drop(self, task_id: str, run="run-1") -> None:
        known = self.runs[self.dag_id, run]
        tasks = tuple(t for t in known.tasks if t.task.task_id != task_id)
        self.runs[self.dag_id, run] = replace(known, tasks=tasks)

    def log(self, event: str, task_id: str = "", *, run="run-1", at=None, **extra) -> None:
        number = len(self.rows) + 1
        at = at or self.clock.now()
        self.rows.append(AuditRow(number, at, event, self.dag_id, run, task_id, extra))

    # The port

    def version(self):
        self._answer()
        return "3.3.2"

    def touched_runs(self, since):
        self._answer()
        self.asked_since.append(since)
        yield from self.runs

    def runs_of(self, dag_id, since):
        self._answer(dag_id)
        yield from (run for dag, run in self.runs if dag == dag_id)

    def run(self, dag_id, run_id):
        self._answer(run_id)
        return self.runs.get((dag_id, run_id))

    def changes(self, since, until):
        self._answer()
        self.before_changes()
        yield from (row for row in self.rows if since < row.at < until)

    def _answer(self, what: str = "") -> None:
        if what in self.forbidden:
            raise AirflowRefusedError(f"403 for {what}")
        if self.down_after is not None:
            if self.down_after == 0:
                raise AirflowUnavailableError("Airflow cannot be reached")
            self.down_after -= 1
