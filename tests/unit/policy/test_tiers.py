from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlgov.policy.inventory_file import parse_entry
from airflow_mlgov.policy.pack_file import parse_pack
from airflow_mlgov.policy.tiers import LEVELS, STANDARD_TIERS, TierRule, tier


def test_a_model_gets_its_tier_from_its_own_pack(entry_text, pack_text) -> None:
    entry = parse_entry(entry_text.text.encode(), "m")
    pack = parse_pack(pack_text.text.encode(), "p")
    assert tier(entry, pack) == 3
    assert tier(replace(entry, complexity="high"), pack) == 1
    assert tier(entry, replace(pack, tiers=STANDARD_TIERS)) == 2


def test_the_standard_rule_never_governs_a_riskier_model_less() -> None:
    assert STANDARD_TIERS.gaps() == []
    assert {STANDARD_TIERS.of(m, c) for m in LEVELS for c in LEVELS} == {1, 2, 3}


@pytest.mark.parametrize(
    ("cell", "raised", "gap"),
    [
        (("high", "high"), 3, ("high", "high", "medium materiality")),
        (("low", "high"), 4, ("low", "high", "medium complexity")),
    ],
)
def test_gaps(cell: tuple[str, str], raised: int, gap: tuple[str, str, str]) -> None:
    matrix = {m: {c: STANDARD_TIERS.of(m, c) for c in LEVELS} for m in LEVELS}
    matrix[cell[0]][cell[1]] = raised
    assert gap in TierRule("x", matrix).gaps()
