from __future__ import annotations

import numpy as np
import pytest

from airflow_mlgov.errors import DataError
from airflow_mlgov.validation.equivalence import ScoredApart, compare_scores


def test_the_same_scores_are_alike_in_every_way() -> None:
    scores = np.linspace(0.01, 0.9, 50)
    found = compare_scores(scores, scores.copy())
    assert (found.rows, found.max_difference, found.mean_difference) == (50, 0.0, 0.0)
    assert (found.rank_agreement, found.psi, found.apart) == (pytest.approx(1.0), 0.0, ())


def test_differences_are_absolute_and_the_rows_are_counted_from_one() -> None:
    found = compare_scores([0.1, 0.2, 0.3, 0.4], [0.1, 0.1, 0.35, 0.4], most=1)
    assert found.max_difference == pytest.approx(0.1)
    assert found.mean_difference == pytest.approx(0.15 / 4)
    assert found.apart == (ScoredApart(2, 0.2, 0.1),)
    assert [row.row for row in compare_scores([0.1, 0.2, 0.3], [0.1, 0.3, 0.3]).apart] == [2]


def test_rank_agreement_is_spearmans() -> None:
    """By hand: ranks 1 2 3 4 5 against 2 1 4 3 5, 1 - 6 * 4 / (5 * 24) = 0.8."""
    found = compare_scores([0.1, 0.2, 0.3, 0.4, 0.5], [0.2, 0.1, 0.4, 0.3, 0.5])
    assert found.rank_agreement == pytest.approx(0.8)
    assert compare_scores([0.1, 0.2, 0.3], [0.9, 0.8, 0.7]).rank_agreement == pytest.approx(-1.0)


def test_a_version_that_ranks_nothing_has_no_rank_agreement() -> None:
    assert compare_scores([0.1, 0.2, 0.3], [0.2, 0.2, 0.2]).rank_agreement is None


def test_the_psi_is_of_the_second_in_the_firsts_deciles() -> None:
    """By hand: deciles of 10 rows each; the second has all of the lowest decile in the highest."""
    first = np.arange(100) / 100
    second = np.where(first < 0.1, 0.99, first)
    by_hand = (0.0001 - 0.1) * np.log(0.0001 / 0.1) + (0.2 - 0.1) * np.log(0.2 / 0.1)
    assert compare_scores(first, second).psi == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([0.1, 0.2], [0.1], "2 scores of one version, 1 of the other"),
        ([0.2, 0.2], [0.1, 0.3], "gives all rows the same score"),
        ([0.1, 1.2], [0.1, 0.3], "version in use"),
        ([0.1, 0.2], [0.1, float("nan")], "rehearsed version"),
    ],
)
def test_what_cannot_be_compared_is_refused(first, second, said: str) -> None:
    with pytest.raises(DataError, match=said):
        compare_scores(first, second)
