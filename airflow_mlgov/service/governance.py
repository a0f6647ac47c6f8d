"""Everything a use case works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlgov.errors import ConfigurationError, UnknownSubjectError

if TYPE_CHECKING:
    from airflow_mlgov.policy.inventory import InventoryEntry
    from airflow_mlgov.policy.pack import PolicyPack
    from airflow_mlgov.records.clock import Clock
    from airflow_mlgov.service.ledger import Ledger
    from airflow_mlgov.service.ports import EvidenceStore


@dataclass(frozen=True)
class Governance:
    """The ledger, the evidence, and the rules in force.

    Attributes:
        ledger: Where decisions are written and read.
        evidence: Documents by digest.
        inventory: Governed models by id.
        packs: Policy packs by id, as they stand in the policy folder now.
        clock: Where the time comes from.
    """

    ledger: Ledger
    evidence: EvidenceStore
    inventory: Mapping[str, InventoryEntry]
    packs: Mapping[str, PolicyPack]
    clock: Clock

    def model(self, model_id: str) -> InventoryEntry:
        """Return a governed model.

        Raises:
            UnknownSubjectError: The inventory has no such model; a retry does not help.
        """
        if model_id not in self.inventory:
            known = ", ".join(sorted(self.inventory)) or "none"
            raise UnknownSubjectError(
                f"Model {model_id!r} is not in the inventory, which knows: {known}.",
                remedy="Add an inventory file for it ('airflow mlgov init' writes a skeleton) or "
                "correct the id.",
            )
        return self.inventory[model_id]

    def pack_for(self, entry: InventoryEntry) -> PolicyPack:
        """Return the policy pack that a model's inventory entry names.

        Raises:
            ConfigurationError: There is no such pack; a retry does not help.
        """
        if entry.policy not in self.packs:
            known = ", ".join(sorted(self.packs)) or "none"
            raise ConfigurationError(
                f"{entry.file}: policy pack {entry.policy!r} is not in the policy folder, which "
                f"knows: {known}.",
                remedy="Correct 'policy' in the inventory file or add the pack.",
            )
        return self.packs[entry.policy]
