from __future__ import annotations

import numpy as np
import pytest

from airflow_mlgov.errors import DataError
from airflow_mlgov.validation.fairness import adverse_impact, name_groups


def test_v15_published():
    """EEOC, Uniform Guidelines Q&A (1979): 75%, 80%, 85% of W's rate; 80% is no impact."""
    counts = {"W": (100, 60), "AI": (100, 45), "H": (100, 48), "B": (100, 51)}
    rates = {rate.group: rate for rate in adverse_impact(counts)}
    assert {group: rate.ratio for group, rate in rates.items()} == {
        "W": 1.0, "AI": 0.75, "H": 0.8, "B": 0.85,
    }  # fmt: skip
    assert [group for group, rate in rates.items() if rate.ratio < 0.8] == ["AI"]


@pytest.mark.parametrize(("reference", "group"), [((60, 100), (48, 100)), ((21, 30), (14, 25))])
def test_four_fifths_is_exactly_on_the_bound(reference, group):
    """Divided in floats, such rates fall on either side of 0.8."""
    counts = {"r": reference[::-1], "g": group[::-1]}
    assert adverse_impact(counts)[1].ratio == 0.8


def test_fisher_published():
    """The lady tasting tea (Fisher, 1935): 3 of 4 against 1 of 4 has two-sided p 0.4857."""
    rates = adverse_impact({"milk": (4, 3), "tea": (4, 1)})
    assert rates[0].p_value is None
    assert rates[1].p_value == pytest.approx(34 / 70)


def test_small_groups_are_listed_and_neither_judged_nor_taken_as_reference():
    rates = adverse_impact({"a": (100, 50), "b": (100, 45), "tiny": (3, 3)}, min_cell=30)
    assert [(rate.group, rate.ratio) for rate in rates] == [("a", 1.0), ("b", 0.9), ("tiny", None)]
    assert rates[2].p_value is None


def test_nobody_is_favoured():
    with pytest.raises(DataError, match="any favourable decision"):
        adverse_impact({"a": (100, 0), "b": (100, 0)})


@pytest.mark.parametrize("counts", [(0, 0), (10, 11), (10, -1)])
def test_impossible_counts(counts):
    with pytest.raises(DataError):
        adverse_impact({"a": counts})


def test_groups_of_a_column_as_it_is():
    column = np.array([1.0, 2, None, float("nan"), "x"], dtype=object)
    assert name_groups(column, None).tolist() == ["1", "2", "(missing)", "(missing)", "x"]


def test_group_names_are_in_normal_form():
    decomposed = np.array(["e\N{COMBINING ACUTE ACCENT}"], dtype=object)
    assert name_groups(decomposed, None).tolist() == ["\N{LATIN SMALL LETTER E WITH ACUTE}"]


def test_bands_are_closed_below():
    column = np.array([24, 25, 40, 59.9, 60, None], dtype=object)
    assert name_groups(column, [25, 60]).tolist() == [
        "below 25", *["25 to below 60"] * 3, "60 and above", "(missing)",
    ]  # fmt: skip


def test_bands_need_numbers():
    with pytest.raises(DataError, match="numeric"):
        name_groups(np.array(["young", "old"], dtype=object), [25])
