"""Builds what use cases work on from the settings."""

from __future__ import annotations

from pathlib import Path

from airflow_mlgov.policy.inventory_file import read_inventory
from airflow_mlgov.policy.pack_file import read_packs
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.service.ports import EvidenceStore
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.wiring.ledger_store import open_ledger_store
from airflow_mlgov.wiring.settings import setting


def open_governance() -> Governance:
    """Return the governance that the settings describe.

    Raises:
        ConfigurationError: A setting is missing or wrong; a retry does not help.
        DocumentError: An inventory file or policy pack is malformed; a retry does not help.
        LedgerUnavailableError: The ledger's store cannot be reached; a retry may help.
    """
    return Governance(
        ledger=open_ledger(),
        evidence=open_evidence(),
        inventory=read_inventory(setting("inventory_path")),
        packs=read_packs(setting("policy_path")),
        clock=SystemClock(),
    )


def open_ledger() -> Ledger:
    """Return the ledger alone, for those who need no inventory.

    Raises:
        ConfigurationError: A setting is missing or wrong; a retry does not help.
        LedgerUnavailableError: The store cannot be reached; a retry may help.
    """
    store = open_ledger_store(setting("ledger_url"))
    return Ledger(store, open_signers(Path(setting("keys_dir"))), SystemClock())


def open_evidence() -> EvidenceStore:
    """Return the store of evidence documents.

    Raises:
        ConfigurationError: The setting is missing; a retry does not help.
    """
    from airflow_mlgov.stores.evidence import ObjectEvidenceStore

    return ObjectEvidenceStore(setting("evidence_url"))
