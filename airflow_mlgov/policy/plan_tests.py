"""Which tests a validation plan may name, and what it may say about each.

Packs are checked where numpy is not installed, so this stands here too; a unit test holds it
against the registry of `airflow_mlgov.validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class TestTerms:
    """What a plan may say about a test.

    Attributes:
        thresholds: Names of the bounds that it reads.
        options: Names of the options that it reads.
        required: Options without which it cannot run.
    """

    __test__ = False  # pytest must not collect it

    thresholds: frozenset[str]
    options: frozenset[str]
    required: frozenset[str]


def _terms(bounds: str, options: str = "", required: str = "") -> TestTerms:
    thresholds = (f"{word}_{bound}" for word in ("fail", "warn") for bound in bounds.split())
    return TestTerms(frozenset(thresholds), frozenset(options.split()), frozenset(required.split()))


KNOWN_TESTS: Mapping[str, TestTerms] = MappingProxyType(
    {
        "calibration.binomial": _terms("p_below", "grades"),
        "calibration.brier": _terms("above"),
        "calibration.hosmer_lemeshow": _terms(
            "p_below", "sample degrees_of_freedom grouping groups"
        ),
        "calibration.intercept": _terms("below above", "slope"),
        "calibration.jeffreys": _terms("p_below", "grades"),
        "calibration.slope": _terms("below above"),
        "challenger.delong": _terms("p_below"),
        "discrimination.auc": _terms("below", "confidence"),
        "discrimination.gini": _terms("below", "confidence"),
        "discrimination.ks": _terms("below"),
        "fairness.adverse_impact": _terms(
            "below", "cutoff favourable min_cell attributes bands", "cutoff"
        ),
        "stability.psi": _terms("above", "bins empty_bin floor alpha"),
    }
)
"""Every test by id, sorted."""
