"""Builds what use cases work on from the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.policy.inventory_file import read_inventory
from airflow_mlgov.policy.inventory_folder import InventoryFolder, folder_at
from airflow_mlgov.policy.pack_file import read_packs
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.service.ports import EvidenceStore, SeenCheckpoints
from airflow_mlgov.service.sequencer import Pace, Sequencer
from airflow_mlgov.wiring.keys import open_keys
from airflow_mlgov.wiring.ledger_store import open_ledger_store
from airflow_mlgov.wiring.settings import optional_setting, setting

log = logging.getLogger(__name__)


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


def open_inventory() -> InventoryFolder | None:
    """Return this process's view of the inventory as it stands now; None without the setting."""
    path = optional_setting("inventory_path")
    return folder_at(path) if path else None


def with_rules_now(gov: Governance) -> Governance:
    """Return the same ledger and evidence with inventory and packs as their files stand now.

    Raises:
        ConfigurationError: A setting is missing or wrong; a retry does not help.
        DocumentError: An inventory file or policy pack is malformed; a retry does not help.
    """
    return replace(
        gov,
        inventory=read_inventory(setting("inventory_path")),
        packs=read_packs(setting("policy_path")),
    )


def open_ledger() -> Ledger:
    """Return the ledger alone, for those who need no inventory.

    Raises:
        ConfigurationError: A setting is missing or wrong; a retry does not help.
        LedgerUnavailableError: The store cannot be reached; a retry may help.
    """
    store = open_ledger_store(setting("ledger_url"))
    signers, trust, retired = open_keys()
    clock, seen = SystemClock(), open_seen()
    return Ledger(store, signers, clock, trust=trust, seen=seen, retired=retired)


def open_sequencer(pace: Pace, say: Callable[[str], None]) -> Sequencer:
    """Return what sequences the ledger that the settings name; it uses the log key only.

    Args:
        pace: How often it does what.
        say: Told what people should know.

    Raises:
        ConfigurationError: A setting is missing or wrong; a retry does not help.
    """
    store = open_ledger_store(setting("ledger_url"))
    signers, trust, retired = open_keys()
    if KeyRole.LOG not in signers:
        raise ConfigurationError(
            f"There is no log key in {setting('keys_dir')}, so nothing can be sequenced here.",
            remedy="Run the sequencer where log.key or log.uri is.",
        )
    own = {KeyRole.LOG: signers[KeyRole.LOG]}
    clock, seen = SystemClock(), open_seen()
    ledger = Ledger(store, own, clock, trust=trust, seen=seen, retired=retired)
    return Sequencer(ledger, store, clock, pace, say)


def open_seen() -> SeenCheckpoints | None:
    """Return what remembers the newest checkpoint that this machine saw of each log.

    Returns:
        None, with a warning, for a user who has neither the setting nor a home.

    Raises:
        ConfigurationError: The setting is a relative path; a retry does not help.
    """
    from airflow_mlgov.stores.seen import SeenFolder

    try:
        folder = setting("seen_dir")
    except ConfigurationError as error:
        log.warning("%s Without it, a ledger that is set back is not noticed here.", error)
        return None
    return SeenFolder(Path(folder))


def open_evidence() -> EvidenceStore:
    """Return the store of evidence documents.

    Raises:
        ConfigurationError: The setting is missing; a retry does not help.
    """
    from airflow_mlgov.stores.evidence import ObjectEvidenceStore

    return ObjectEvidenceStore(setting("evidence_url"))
