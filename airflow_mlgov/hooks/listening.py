"""What Airflow's configuration makes of lineage: cheap, since every operator of ours asks."""

from __future__ import annotations

import json


def is_listening() -> bool:
    """Tell whether the OpenLineage provider is installed and has somewhere to send events to."""
    try:
        from airflow.providers.openlineage import conf
    except ImportError:
        return False
    return not conf.is_disabled()


def keeps_outbox() -> bool:
    """Tell whether Airflow's configuration hands every event to the outbox of this package."""
    if not is_listening():
        return False
    from airflow.providers.openlineage import conf

    return "OutboxTransport" in json.dumps(conf.transport())
