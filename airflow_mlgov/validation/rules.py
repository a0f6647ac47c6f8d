"""Thresholds and options of planned tests: read, said in words, held against a number."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Protocol

from airflow_mlgov.errors import ConfigurationError, DataError
from airflow_mlgov.records.governance import Outcome

BELOW = frozenset({"fail_below", "warn_below"})
ABOVE = frozenset({"fail_above", "warn_above"})
P_BELOW = frozenset({"fail_p_below", "warn_p_below"})
CONVENTION = "convention; the bounds are the policy pack's"


class PlannedTest(Protocol):
    """One line of a validation plan, as a policy pack fixes it."""

    @property
    def test(self) -> str:
        """Id of the test."""
        ...

    @property
    def thresholds(self) -> dict[str, float]:
        """Bounds by name."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """Whatever else the test takes."""
        ...


def judge(value: float, thresholds: Mapping[str, float]) -> Outcome:
    """Hold a number against its bounds; a number that equals a bound is inside it.

    Args:
        value: Finite.
        thresholds: Any of ``fail_below``, ``warn_below``, ``fail_above``, ``warn_above``.
    """
    for word, outcome in (("fail", Outcome.FAIL), ("warn", Outcome.WARN)):
        low, high = thresholds.get(f"{word}_below"), thresholds.get(f"{word}_above")
        if (low is not None and value < low) or (high is not None and value > high):
            return outcome
    return Outcome.PASS


def judge_p(p_value: float, thresholds: Mapping[str, float]) -> Outcome:
    """Hold a p-value against ``fail_p_below`` and ``warn_p_below``; the level itself passes."""
    return judge(p_value, {name.replace("_p_", "_"): bound for name, bound in thresholds.items()})


def in_words(thresholds: Mapping[str, float]) -> str:
    """Return the bounds as a sentence for people, worst first."""
    names = ("fail_below", "fail_above", "fail_p_below", "warn_below", "warn_above", "warn_p_below")
    parts = [f"{_spoken(name)} {thresholds[name]:g}" for name in names if name in thresholds]
    return ", ".join(parts) if parts else "reported, not judged"


def _spoken(name: str) -> str:
    return name.replace("_p_below", " if p-value below").replace("_", " ")


def choose(planned: PlannedTest, option: str, allowed: tuple[str, ...]) -> str:
    """Return an option that takes one of a few words; the first one is the default.

    Raises:
        ConfigurationError: Another word; a retry does not help.
    """
    value = planned.options.get(option, allowed[0])
    if value not in allowed:
        raise ConfigurationError(
            f"{planned.test}: option {option!r} is {value!r}; it takes {' or '.join(allowed)}."
        )
    return str(value)


def number(
    planned: PlannedTest, option: str, default: float | None, low: float, high: float
) -> float:
    """Return a numeric option within [low, high].

    Raises:
        ConfigurationError: Missing without a default, not a number, or out of bounds; a retry does
            not help.
    """
    value = planned.options.get(option, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigurationError(
            f"{planned.test}: option {option!r} is {value!r}; it takes a number from {low:g} to "
            f"{high:g}."
        )
    return float(value)


def whole_number(planned: PlannedTest, option: str, default: int, low: int, high: int) -> int:
    """Return an integer option within [low, high].

    Raises:
        ConfigurationError: Not an integer or out of bounds; a retry does not help.
    """
    value = number(planned, option, default, low, high)
    if value != int(value):
        raise ConfigurationError(
            f"{planned.test}: option {option!r} is {value!r}; it takes a whole number."
        )
    return int(value)


def increasing(planned: PlannedTest, what: str, values: Any) -> list[float]:
    """Return a list of strictly increasing numbers (cut points between bands or grades).

    Raises:
        ConfigurationError: Not a list of at least one number, or not increasing; a retry does not
            help.
    """
    is_list = isinstance(values, list) and bool(values)
    if not is_list or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        raise ConfigurationError(
            f"{planned.test}: option {what} is {values!r}; it takes a list of numbers."
        )
    if any(low >= high for low, high in pairwise(values)):
        raise ConfigurationError(
            f"{planned.test}: option {what} is {values!r}; the numbers must increase."
        )
    return [float(value) for value in values]


def require(condition: bool, problem: str) -> None:
    """Raise `DataError` with this problem unless the condition holds."""
    if not condition:
        raise DataError(problem)
