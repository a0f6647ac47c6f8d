"""Settings to implementations: the one place where ports meet what stands behind them.

A name's module is loaded when the name is first used: a process that only appends to the outbox
need not know what an anchor is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from airflow_mlgov.wiring.lineage import (
        lineage_target_names,
        lineage_targets_meant,
        open_shippers,
        open_targets,
    )
    from airflow_mlgov.wiring.outbox import open_outbox, open_spool
    from airflow_mlgov.wiring.platforms import (
        open_either,
        open_jobs,
        open_platform,
        open_scoring,
        platform_terms,
        platforms_file,
        runs_here,
    )
    from airflow_mlgov.wiring.registries import open_registries, open_registry
    from airflow_mlgov.wiring.rotation import key_places, rotate_role
    from airflow_mlgov.wiring.settings import setting

_HOMES = {
    "configured_witnesses": "anchors",
    "key_places": "rotation",
    "lineage_target_names": "lineage",
    "lineage_targets_meant": "lineage",
    "open_anchoring": "anchors",
    "open_anchors": "anchors",
    "open_evidence": "governance",
    "open_governance": "governance",
    "open_inventory": "governance",
    "open_keys": "keys",
    "open_ledger": "governance",
    "open_ledger_store": "ledger_store",
    "open_outbox": "outbox",
    "open_either": "platforms",
    "open_jobs": "platforms",
    "open_platform": "platforms",
    "open_scoring": "platforms",
    "platform_terms": "platforms",
    "platforms_file": "platforms",
    "runs_here": "platforms",
    "open_registries": "registries",
    "open_registry": "registries",
    "open_seen": "governance",
    "open_sequencer": "governance",
    "open_shippers": "lineage",
    "open_site": "addresses",
    "open_spool": "outbox",
    "open_targets": "lineage",
    "rotate_role": "rotation",
    "setting": "settings",
    "with_rules_now": "governance",
}

__all__ = [
    "configured_witnesses",
    "key_places",
    "lineage_target_names",
    "lineage_targets_meant",
    "open_anchoring",
    "open_anchors",
    "open_either",
    "open_evidence",
    "open_governance",
    "open_inventory",
    "open_jobs",
    "open_keys",
    "open_ledger",
    "open_ledger_store",
    "open_outbox",
    "open_platform",
    "open_registries",
    "open_registry",
    "open_scoring",
    "open_seen",
    "open_sequencer",
    "open_shippers",
    "open_site",
    "open_spool",
    "open_targets",
    "platform_terms",
    "platforms_file",
    "rotate_role",
    "runs_here",
    "setting",
    "with_rules_now",
]

if not TYPE_CHECKING:  # else a name that is misspelt would be Any

    def __getattr__(name: str) -> Any:
        """Load a name from its module when it is first used."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
