"""What the tests look at: outcomes and probabilities, checked once when they come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from airflow_mlgov.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Column: TypeAlias = "NDArray[Any]"


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows with a known outcome and the probability that the model gave them.

    Attributes:
        name: ``development`` or ``validation``; errors say it.
        y: Outcome, 0 or 1, one a row; 1 is the event that the probability is of (a default).
        p: Probability of the event, in [0, 1], one a row.
        protected: Protected attributes by name, one value a row.
        challenger: Probabilities of a second model on the same rows, or None.

    Raises:
        DataError: No rows, unequal lengths, one class only, or values outside those bounds; a retry
            does not help.
    """

    name: str
    y: Floats
    p: Floats
    protected: Mapping[str, Column] = field(default_factory=dict)
    challenger: Floats | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", as_outcomes(self.y, f"{self.name} sample: outcomes"))
        object.__setattr__(
            self, "p", as_probabilities(self.p, f"{self.name} sample: probabilities")
        )
        if self.challenger is not None:
            what = f"{self.name} sample: the challenger's probabilities"
            object.__setattr__(self, "challenger", as_probabilities(self.challenger, what))
        self._check_lengths()
        if self.y.min() == self.y.max():
            raise DataError(
                f"{self.name} sample: all {self.rows} outcomes are {self.y[0]:.0f}; nothing can "
                "be tested on one class.",
                remedy="Check the target column and the cut of the data.",
            )

    def _check_lengths(self) -> None:
        lengths = {"probabilities": len(self.p)}
        if self.challenger is not None:
            lengths["the challenger's probabilities"] = len(self.challenger)
        lengths |= {
            f"protected attribute {name!r}": len(column) for name, column in self.protected.items()
        }
        for what, length in lengths.items():
            if length != self.rows:
                raise DataError(
                    f"{self.name} sample: {self.rows} outcomes, but {length} values of {what}."
                )

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def events(self) -> int:
        """Number of rows with outcome 1."""
        return int(self.y.sum())


@dataclass(frozen=True, eq=False)
class Samples:
    """What a validation plan is run on.

    Attributes:
        development: What the model was fitted on.
        validation: What it has not seen; every test without an option ``sample`` looks at this one.
    """

    development: Sample
    validation: Sample


def as_outcomes(values: Any, what: str) -> Floats:
    """Return outcomes as floats 0.0 and 1.0.

    Args:
        values: One-dimensional, each 0, 1, False or True.
        what: What errors call them.

    Raises:
        DataError: Empty, missing values, or anything but 0 and 1; a retry does not help.
    """
    array = _as_floats(values, what)
    wrong = ~np.isin(array, (0.0, 1.0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{what}: row {row} holds {array[row]:g}; only 0 and 1 are outcomes.")
    return array


def as_probabilities(values: Any, what: str) -> Floats:
    """Return probabilities as floats.

    Args:
        values: One-dimensional, each in [0, 1].
        what: What errors call them.

    Raises:
        DataError: Empty, missing or infinite values, or values outside [0, 1]; a retry does not
            help.
    """
    array = _as_floats(values, what)
    wrong = (array < 0.0) | (array > 1.0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{what}: row {row} holds {array[row]:g}, which is outside [0, 1].",
            remedy="Give probabilities, not scores or log-odds.",
        )
    return array


def _as_floats(values: Any, what: str) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} are not numbers: {error}.") from error
    if array.ndim != 1 or not array.size:
        raise DataError(f"{what}: one value a row is needed, got an array of shape {array.shape}.")
    missing = ~np.isfinite(array)
    if missing.any():
        raise DataError(
            f"{what}: {int(missing.sum())} of {array.size} are missing or infinite (first in row "
            f"{int(np.argmax(missing))})."
        )
    return array
