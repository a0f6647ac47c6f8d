"""Opens the outbox of lineage events, and where a worker keeps them while it is away."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.service.outbox import Outbox
from airflow_mlgov.wiring.ledger_store import is_postgres
from airflow_mlgov.wiring.settings import setting

if TYPE_CHECKING:
    from airflow_mlgov.stores.spool import LineageSpool

log = logging.getLogger(__name__)


def open_outbox(url: str | None = None) -> Outbox:
    """Return the outbox in the ledger's store; nothing is reached yet.

    Args:
        url: Of the store; by default what ``[mlgov] ledger_url`` says.

    Raises:
        ConfigurationError: The setting is missing, or as for `open_ledger_store`.
    """
    url = setting("ledger_url") if url is None else url
    if is_postgres(url):
        from airflow_mlgov.stores.postgres import PostgresOutbox

        return PostgresOutbox(url)
    from airflow_mlgov.stores.sqlite import SqliteOutbox

    return SqliteOutbox.from_url(url)


def open_spool() -> LineageSpool | None:
    """Return where this machine keeps lineage events while the store is away.

    Returns:
        None, with a warning, for a user who has neither the setting nor a home.

    Raises:
        ConfigurationError: The setting is a relative path; a retry does not help.
    """
    from airflow_mlgov.stores.spool import LineageSpool

    try:
        folder = setting("lineage_spool_dir")
    except ConfigurationError as error:
        log.warning("%s Without it, lineage is lost while the ledger's store is away.", error)
        return None
    return LineageSpool(Path(folder))
