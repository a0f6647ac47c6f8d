"""An OpenLineage transport that keeps events in the ledger's store and returns.

``[openlineage] transport = {"type": "airflow_mlgov.listeners.outbox_transport.OutboxTransport"}``
is all that an Airflow with the stock provider needs. No backend has to be up while a task runs:
what `airflow mlgov lineage ship` or the sequencer does with the events later is no concern of it.
"""

from __future__ import annotations

import json
import logging
from functools import cached_property
from typing import TYPE_CHECKING

from openlineage.client.serde import Serde  # noqa: TID253 - nobody else imports this file
from openlineage.client.transport.transport import Config, Transport  # noqa: TID253

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.listeners.capture import enriched
from airflow_mlgov.listeners.superseded import endings
from airflow_mlgov.operators.lineage import quietly
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.service.outbox import OutboxItem

if TYPE_CHECKING:
    from openlineage.client.client import Event

    from airflow_mlgov.service.outbox import Outbox
    from airflow_mlgov.stores.spool import LineageSpool

log = logging.getLogger(__name__)


class OutboxTransport(Transport):  # type: ignore[misc]
    """Appends each event to the outbox; where the store is away, to a folder of this machine.

    Args:
        config: Nothing to set: the store is ``[mlgov] ledger_url``, the folder ``[mlgov]
            lineage_spool_dir``.
    """

    kind = "mlgov_outbox"
    config_class = Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        del config

    def emit(self, event: Event) -> None:
        """Keep an event durably; the same event again changes nothing.

        A store that is not set up for events yet is one that is away: what cannot be kept there
        now waits on this machine.

        Raises:
            LineageError: It is no event of a run; a retry does not help.
            MlgovError: Neither the store nor the folder could keep it.
        """
        said = enriched(json.loads(Serde.to_json(event)))
        items, at = [OutboxItem.of(said)], SystemClock().now()
        try:
            over = quietly(lambda: endings(said, self._outbox)) or []
            items = [*map(OutboxItem.of, over), *items]
            self._outbox.append(items, at)
        except MlgovError as error:
            if self._spool is None:
                raise
            self._spool.keep(items, at)
            log.warning("A lineage event waits on this machine: %s", error)
            return
        self._adopt()
        self._ship()

    def _adopt(self) -> None:
        """Bring into the outbox what had to wait on this machine while the store was away."""
        if self._spool is None:
            return
        try:
            self._spool.adopt(self._outbox)
        except MlgovError as error:
            log.warning("Lineage events still wait on this machine: %s", error)

    def _ship(self) -> None:
        from airflow_mlgov.listeners.embedded_shipper import start_shipper

        start_shipper(self._outbox)

    @cached_property
    def _outbox(self) -> Outbox:
        from airflow_mlgov.wiring import open_outbox

        return open_outbox()

    @cached_property
    def _spool(self) -> LineageSpool | None:
        from airflow_mlgov.wiring import open_spool

        return open_spool()
