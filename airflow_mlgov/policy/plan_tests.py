"""Which tests a validation plan may name.

Packs are checked where numpy is not installed, so the list stands here too; a unit test holds it
against the registry of `airflow_mlgov.validation`.
"""

from __future__ import annotations

KNOWN_TESTS = (
    "calibration.brier",
    "calibration.hosmer_lemeshow",
    "calibration.intercept",
    "calibration.slope",
    "challenger.delong",
    "discrimination.auc",
    "discrimination.gini",
    "discrimination.ks",
    "fairness.adverse_impact",
    "stability.psi",
)
"""Ids of every test, sorted."""
