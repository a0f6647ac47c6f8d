"""Validation plans: the tests by id, and running what a policy pack planned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from airflow_mlgov.errors import ConfigurationError, DataError
from airflow_mlgov.records.governance import Outcome, TestResult
from airflow_mlgov.validation import calibration_tests, discrimination, fairness, stability
from airflow_mlgov.validation.rules import ABOVE, BELOW, P_BELOW, PlannedTest, in_words
from airflow_mlgov.validation.samples import Samples


@dataclass(frozen=True, slots=True)
class PlanTest:
    """A test that a plan can name.

    Attributes:
        title: For people.
        run: Looks at the samples, returns one result or several (one a segment).
        thresholds: Names of the bounds that it reads.
        options: Names of the options that it reads.
        required: Options without which it cannot run.
    """

    title: str
    run: Callable[[Samples, PlannedTest], list[TestResult]]
    thresholds: frozenset[str]
    options: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


def _options(names: str) -> frozenset[str]:
    return frozenset(names.split())


TESTS: Mapping[str, PlanTest] = MappingProxyType(
    {
        "discrimination.auc": PlanTest(
            "Area under the ROC curve", discrimination.assess_auc, BELOW, _options("confidence")
        ),
        "discrimination.gini": PlanTest(
            "Gini coefficient", discrimination.assess_gini, BELOW, _options("confidence")
        ),
        "discrimination.ks": PlanTest(
            "Kolmogorov-Smirnov distance", discrimination.assess_ks, BELOW
        ),
        "calibration.brier": PlanTest("Brier score", calibration_tests.assess_brier, ABOVE),
        "calibration.slope": PlanTest(
            "Calibration slope", calibration_tests.assess_slope, BELOW | ABOVE
        ),
        "calibration.intercept": PlanTest(
            "Calibration intercept",
            calibration_tests.assess_intercept,
            BELOW | ABOVE,
            _options("slope"),
        ),
        "calibration.hosmer_lemeshow": PlanTest(
            "Hosmer-Lemeshow test",
            calibration_tests.assess_hosmer_lemeshow,
            P_BELOW,
            _options("sample degrees_of_freedom grouping groups"),
        ),
        "calibration.jeffreys": PlanTest(
            "Jeffreys test", calibration_tests.assess_jeffreys, P_BELOW, _options("grades")
        ),
        "calibration.binomial": PlanTest(
            "Binomial test", calibration_tests.assess_binomial, P_BELOW, _options("grades")
        ),
        "stability.psi": PlanTest(
            "Population stability index",
            stability.assess_psi,
            ABOVE,
            _options("bins empty_bin floor alpha"),
        ),
        "fairness.adverse_impact": PlanTest(
            "Adverse impact ratio",
            fairness.assess_adverse_impact,
            BELOW,
            _options("cutoff favourable min_cell attributes bands"),
            _options("cutoff"),
        ),
        "challenger.delong": PlanTest(
            "Champion against challenger", discrimination.assess_challenger, P_BELOW
        ),
    }
)
"""Every test by id. Ids stand in packs and ledgers: one is added, never renamed or removed."""


def check_plan(plan: Sequence[PlannedTest]) -> None:
    """Refuse a plan that cannot be run as it is written, before any data is read.

    Raises:
        ConfigurationError: No test, an unknown or repeated test, threshold or option; all of them
            are named. A retry
            does not help.
    """
    problems = [problem for planned in plan for problem in _problems(planned)]
    ids = [planned.test for planned in plan]
    problems += [
        f"{test} stands more than once" for test in dict.fromkeys(ids) if ids.count(test) > 1
    ]
    if not plan:
        problems.append("it has no test")
    if problems:
        raise ConfigurationError(
            f"The validation plan cannot be run: {'; '.join(problems)}.",
            remedy="Correct the plan in the policy pack; docs/reference/validation-tests.md lists "
            "what each test reads.",
        )


def _problems(planned: PlannedTest) -> list[str]:
    known = TESTS.get(planned.test)
    if known is None:
        return [f"{planned.test!r} is no test; there are: {', '.join(TESTS)}"]
    problems = []
    for what, given, allowed in (
        ("threshold", planned.thresholds, known.thresholds),
        ("option", planned.options, known.options),
    ):
        readable = ", ".join(sorted(allowed)) or "none"
        problems += [
            f"{planned.test} reads no {what} {name!r} (it reads: {readable})"
            for name in given
            if name not in allowed
        ]
    problems += [
        f"{planned.test} needs option {name!r}"
        for name in sorted(known.required - set(planned.options))
    ]
    bounds = planned.thresholds.items()
    problems += [
        f"{planned.test}: threshold {name!r} is not a number"
        for name, bound in bounds
        if not _is_number(bound)
    ]
    return problems


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def run_plan(samples: Samples, plan: Sequence[PlannedTest]) -> list[TestResult]:
    """Run a validation plan and return its results, in the plan's order.

    A test that cannot be computed on these samples (constant scores, too few rows, no challenger)
    does not vanish and
    does not pass: its result has no statistic, fails, and says why.

    Args:
        samples: Development and validation sample.
        plan: What the policy pack fixed for the model's class.

    Raises:
        ConfigurationError: The plan cannot be run as it is written; a retry does not help.
        DataError: A test gave a number that is not finite; a retry does not help.
    """
    check_plan(plan)
    results = [result for planned in plan for result in _run(samples, planned)]
    for result in results:
        _refuse_not_finite(result.as_json(), result.test)
    return results


def _run(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    try:
        return TESTS[planned.test].run(samples, planned)
    except DataError as error:
        result = TestResult(
            test=planned.test,
            title=TESTS[planned.test].title,
            statistic=None,
            outcome=Outcome.FAIL,
            threshold=in_words(planned.thresholds),
            sample_sizes={s.name: s.rows for s in (samples.development, samples.validation)},
            source="airflow-mlgov: a planned test that cannot be computed fails",
            details={"not_computed": str(error)},
        )
        return [result]


def _refuse_not_finite(value: Any, test: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(
            f"Test {test!r} gave a number that is not finite; nothing of it counts as evidence."
        )
    children = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    for child in children:
        _refuse_not_finite(child, test)
