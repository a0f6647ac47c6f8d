"""What a task of a parsed DAG says, mapped or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def model_of(task: Any) -> str:
    """Return the model that one of our tasks names: an id or a template; empty if it is mapped."""
    if not task.is_mapped:
        return str(task.model)
    said = set(settings_of(task, "model"))
    return str(said.pop()) if len(said) == 1 else ""


def settings_of(task: Any, name: str) -> list[Any]:
    """Return every value of an argument that can be seen before the task runs, without None.

    Of a mapped task these are the partial's and those that it is mapped over; what only a run
    knows is returned as the thing that stands for it.
    """
    if not task.is_mapped:
        values = [getattr(task, name, None)]
    else:
        values = [task.partial_kwargs.get(name), *_expanded(task.expand_input.value, name)]
    return [value for value in values if value is not None]


def _expanded(given: Any, name: str) -> Iterator[Any]:
    if isinstance(given, Mapping):
        over = given.get(name)
        yield from over if isinstance(over, Sequence) and not isinstance(over, str) else (over,)
    elif isinstance(given, Sequence):
        for mapped in given:
            if isinstance(mapped, Mapping):
                yield mapped.get(name)
