"""Settings to implementations: the one place where ports meet what stands behind them."""

from __future__ import annotations

from airflow_mlgov.wiring.addresses import open_site
from airflow_mlgov.wiring.anchors import configured_witnesses, open_anchoring, open_anchors
from airflow_mlgov.wiring.governance import (
    open_evidence,
    open_governance,
    open_inventory,
    open_ledger,
    open_seen,
    open_sequencer,
    with_rules_now,
)
from airflow_mlgov.wiring.keys import open_keys
from airflow_mlgov.wiring.ledger_store import open_ledger_store
from airflow_mlgov.wiring.platforms import open_platform
from airflow_mlgov.wiring.registries import open_registry
from airflow_mlgov.wiring.rotation import key_places, rotate_role
from airflow_mlgov.wiring.settings import Settings, setting, settings

__all__ = [
    "Settings",
    "configured_witnesses",
    "key_places",
    "open_anchoring",
    "open_anchors",
    "open_evidence",
    "open_governance",
    "open_inventory",
    "open_keys",
    "open_ledger",
    "open_ledger_store",
    "open_platform",
    "open_registry",
    "open_seen",
    "open_sequencer",
    "open_site",
    "rotate_role",
    "setting",
    "settings",
    "with_rules_now",
]
