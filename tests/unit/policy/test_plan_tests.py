from __future__ import annotations

from airflow_mlgov.policy.plan_tests import KNOWN_TESTS
from airflow_mlgov.validation.plan import TESTS


def test_the_list_is_that_of_the_registry() -> None:
    registry = {
        name: (set(test.thresholds), set(test.options), set(test.required))
        for name, test in TESTS.items()
    }
    assert {
        name: (set(terms.thresholds), set(terms.options), set(terms.required))
        for name, terms in KNOWN_TESTS.items()
    } == registry


def test_the_list_is_sorted() -> None:
    assert list(KNOWN_TESTS) == sorted(KNOWN_TESTS)
