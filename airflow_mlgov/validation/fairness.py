"""Whether favourable decisions come equally often to the groups of a protected attribute."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from airflow_mlgov.errors import ConfigurationError, DataError
from airflow_mlgov.records.governance import Outcome, TestResult
from airflow_mlgov.validation.rules import (
    PlannedTest,
    choose,
    in_words,
    increasing,
    judge,
    number,
    require,
    whole_number,
)
from airflow_mlgov.validation.samples import Column, Sample, Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSING = "(missing)"
MOST_GROUPS = 20
SOURCE = (
    "29 CFR 1607.4(D), the four-fifths rule, an employment rule borrowed in lending; "
    "Fisher's exact test beside it"
)


@dataclass(frozen=True, slots=True)
class GroupRate:
    """One group's share of favourable decisions, held against the group with the highest share.

    Attributes:
        group: The attribute's value, or the band that it falls in.
        rows: Rows of the group.
        favourable: Favourable decisions among them.
        rate: favourable / rows.
        ratio: Adverse impact ratio, rate / highest rate; None if the group is too small to be
            judged.
        p_value: Fisher's exact test against the reference group, two-sided; None where ratio is,
            and for the reference.
    """

    group: str
    rows: int
    favourable: int
    rate: float
    ratio: float | None
    p_value: float | None


def adverse_impact(counts: Mapping[str, tuple[int, int]], min_cell: int = 1) -> list[GroupRate]:
    """Return each group's adverse impact ratio to the group with the highest favourable rate.

    Args:
        counts: Rows and favourable decisions by group.
        min_cell: Groups with fewer rows are listed, not judged nor taken as reference; at least 1.

    Raises:
        DataError: Impossible counts, or no favourable decision in any group; no retry helps.

    Source:
        29 CFR 1607.4(D); Questions and Answers on the Uniform Guidelines, 44 FR 11996 (1979).
    """
    for group, (rows, favourable) in counts.items():
        require(
            0 <= favourable <= rows and rows > 0,
            f"Group {group!r}: {favourable} favourable decisions of {rows} rows.",
        )
    rates = {group: Fraction(favourable, rows) for group, (rows, favourable) in counts.items()}
    judged = [group for group, (rows, _) in counts.items() if rows >= min_cell]
    highest = max((rates[group] for group in judged), default=Fraction(0))
    if judged and not highest:
        raise DataError(
            "No group gets any favourable decision at this cut-off, so that rates cannot be "
            "compared."
        )
    reference = next((group for group in judged if rates[group] == highest), "")
    compared = set(judged) - {reference}
    return [
        GroupRate(
            group=group,
            rows=rows,
            favourable=favourable,
            rate=float(rates[group]),
            # From the exact fraction: four fifths is 0.8 and not a float's breadth below.
            ratio=float(rates[group] / highest) if group in judged else None,
            p_value=_fisher(counts[group], counts[reference]) if group in compared else None,
        )
        for group, (rows, favourable) in counts.items()
    ]


def _fisher(group: tuple[int, int], reference: tuple[int, int]) -> float:
    table = [[favourable, rows - favourable] for rows, favourable in (group, reference)]
    return float(stats.fisher_exact(table).pvalue)


def name_groups(column: Column, bands: list[float] | None) -> NDArray[np.str_]:
    """Return the group of each row, as text in Unicode normalisation form C.

    Args:
        column: Values of a protected attribute, shape (n,); missing ones make a group of their own.
        bands: Cut points for a numeric attribute: bands are closed below and open above; None to
            take values as they are.

    Raises:
        DataError: Bands for a column that is not numeric; a retry does not help.
    """
    if bands is None:
        return np.asarray([_label(value) for value in column.tolist()], dtype=np.str_)
    try:
        values = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"Bands need a numeric column: {error}.") from error
    labels = [
        f"below {bands[0]:g}",
        *(f"{a:g} to below {b:g}" for a, b in pairwise(bands)),
    ]
    labels.append(f"{bands[-1]:g} and above")
    named = np.asarray(labels, dtype=np.str_)[np.searchsorted(bands, values, side="right")]
    return np.where(np.isnan(values), MISSING, named)


def _label(value: Any) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN and NaT alone differ from themselves
        return MISSING
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return unicodedata.normalize("NFC", str(value))


def assess_adverse_impact(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``fairness.adverse_impact``: one result for each protected attribute."""
    sample = samples.validation
    wanted = planned.options.get("attributes", list(sample.protected))
    require(
        bool(wanted), "The plan tests fairness, and the inventory names no protected attribute."
    )
    lacking = [name for name in wanted if name not in sample.protected]
    require(
        not lacking,
        f"The validation sample lacks the protected attributes {', '.join(map(repr, lacking))}.",
    )
    cutoff = number(planned, "cutoff", None, 0.0, 1.0)
    side = choose(planned, "favourable", ("below", "above"))
    favourable = sample.p < cutoff if side == "below" else sample.p > cutoff
    decision = f"favourable if the probability is {side} {cutoff:g}"
    return [_assess_attribute(sample, planned, name, (favourable, decision)) for name in wanted]


def _assess_attribute(
    sample: Sample, planned: PlannedTest, name: str, decided: tuple[NDArray[np.bool_], str]
) -> TestResult:
    favourable, decision = decided
    min_cell = whole_number(planned, "min_cell", 30, 1, 1_000_000)
    bands = planned.options.get("bands", {})
    cuts = increasing(planned, f"'bands.{name}'", bands[name]) if name in bands else None
    groups, of_row = np.unique(name_groups(sample.protected[name], cuts), return_inverse=True)
    if len(groups) > MOST_GROUPS:
        raise ConfigurationError(
            f"{planned.test}: attribute {name!r} has {len(groups)} different values; at most "
            f"{MOST_GROUPS} are compared.",
            remedy=f"Give cut points in the plan's option 'bands.{name}'.",
        )
    rows = np.bincount(of_row)
    counts = {
        str(group): (int(rows[i]), int(favourable[of_row == i].sum()))
        for i, group in enumerate(groups)
    }
    rates = adverse_impact(counts, min_cell)
    ratios = [rate.ratio for rate in rates if rate.ratio is not None]
    details: dict[str, Any] = {
        "decision": decision,
        "min_cell": min_cell,
        "groups": [_group_json(rate) for rate in rates],
    }
    lowest = min(ratios) if len(ratios) > 1 else None
    if lowest is None:
        details["note"] = f"Fewer than two groups have {min_cell} rows: too few to judge."
    return TestResult(
        test=planned.test,
        title=f"Adverse impact ratio by {name}",
        statistic=lowest,
        outcome=Outcome.WARN if lowest is None else judge(lowest, planned.thresholds),
        threshold=f"lowest ratio to the best-served group: {in_words(planned.thresholds)}",
        sample_sizes={sample.name: sample.rows},
        source=SOURCE,
        details=details,
        segment=unicodedata.normalize("NFC", name),
    )


def _group_json(rate: GroupRate) -> dict[str, Any]:
    return {
        "group": rate.group,
        "rows": rate.rows,
        "favourable": rate.favourable,
        "rate": rate.rate,
        "ratio": rate.ratio,
        "p_value": rate.p_value,
    }
