"""How closely a model is governed: its tier, computed from two axes by a versioned rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlgov.policy.inventory import InventoryEntry
    from airflow_mlgov.policy.pack import PolicyPack

LEVELS = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class TierRule:
    """A rule that gives each model its tier.

    Attributes:
        rule: Name of this version of the rule.
        matrix: Tier (1 is the strictest, at most 5) by materiality, then by complexity.

    Source:
        PRA SS1/23 principle 1.3: two axes, materiality and complexity.
    """

    rule: str
    matrix: Mapping[str, Mapping[str, int]]

    def of(self, materiality: str, complexity: str) -> int:
        """Return the tier for two levels (``low``, ``medium`` or ``high``)."""
        return self.matrix[materiality][complexity]

    def gaps(self) -> list[tuple[str, str, str]]:
        """Return cells that govern a riskier model less closely, and the level compared with."""
        found = []
        for at, materiality in enumerate(LEVELS):
            for over, complexity in enumerate(LEVELS):
                tier = self.of(materiality, complexity)
                if at and tier > self.of(LEVELS[at - 1], complexity):
                    found.append((materiality, complexity, f"{LEVELS[at - 1]} materiality"))
                elif over and tier > self.of(materiality, LEVELS[over - 1]):
                    found.append((materiality, complexity, f"{LEVELS[over - 1]} complexity"))
        return found


STANDARD_TIERS = TierRule(
    "standard-1",
    MappingProxyType(
        {
            "low": MappingProxyType({"low": 3, "medium": 3, "high": 2}),
            "medium": MappingProxyType({"low": 3, "medium": 2, "high": 2}),
            "high": MappingProxyType({"low": 2, "medium": 1, "high": 1}),
        }
    ),
)
"""Applies where a pack states no rule of its own."""


def tier(entry: InventoryEntry, pack: PolicyPack) -> int:
    """Return the tier of a model under its pack; 1 is the strictest."""
    return pack.tiers.of(entry.materiality, entry.complexity)
