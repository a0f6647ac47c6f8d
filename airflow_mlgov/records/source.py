"""Which Airflow task wrote something."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

_KEEP = "._:@/+-|~ "


@dataclass(frozen=True, slots=True)
class Source:
    """A task instance as every Airflow names it, or nothing for the command line.

    Attributes:
        dag_id: DAG.
        run_id: Run of it.
        task_id: Task of it.
        map_index: -1 if the task is not mapped.
        try_number: First try is 1; 0 outside of tasks.
    """

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    try_number: int = 0

    @property
    def task(self) -> tuple[str, str, str, int]:
        """The task instance, whichever its try."""
        return self.dag_id, self.run_id, self.task_id, self.map_index

    def as_json(self) -> dict[str, Any]:
        """Return the source as JSON values; what is not ASCII is percent-encoded."""
        return {
            "dag_id": _quoted(self.dag_id),
            "run_id": _quoted(self.run_id),
            "task_id": _quoted(self.task_id),
            "map_index": self.map_index,
            "try_number": self.try_number,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Source:
        """Return the source that `as_json` wrote."""
        return cls(
            dag_id=unquote(value["dag_id"]),
            run_id=unquote(value["run_id"]),
            task_id=unquote(value["task_id"]),
            map_index=value["map_index"],
            try_number=value["try_number"],
        )


@lru_cache  # a process writes of few tasks, and every entry names one more than once
def _quoted(text: str) -> str:
    return quote(text, safe=_KEEP)
