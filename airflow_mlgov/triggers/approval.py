"""The trigger that wakes an `ApprovalSensor`; it decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.service.await_decision import Awaited
from airflow_mlgov.service.ledger_watch import FRESH_S, LedgerWatch

PROBLEM = "problem"
"""Key of the event: what is wrong, for people; empty if it is time to count."""


class ApprovalTrigger(BaseTrigger):
    """Wait until there is an answer about a model version, or none can be had.

    All triggers of a process share one reading of the ledger, in a thread of its own. Its state is
    the ledger's, so one that moves to another triggerer goes on.

    Args:
        model: Id in the inventory.
        target: Environment.
        version: Manifest digest ``sha256:…``; None for that of the newest request on record.
        alias: Registry alias that is waited for; empty for none.
        poke_interval: Seconds between two looks; fewer than one become one.
    """

    def __init__(
        self, *, model: str, target: str, version: str | None, alias: str, poke_interval: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.target = target
        self.version = version
        self.alias = alias
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere."""
        names = ("model", "target", "version", "alias", "poke_interval")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to be told. The sensor looked before it deferred."""
        awaited = Awaited.named(self.model, self.target, self.version, self.alias)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(self.poke_interval, FRESH_S))
            try:
                if await loop.run_in_executor(_reader(), _has_answer, awaited):
                    yield _woken()
                    return
            except MlgovError as error:
                if not error.retryable:
                    yield _woken(error.diagnostics())
                    return
                self.log.warning("Waiting goes on: %s", error)


def _woken(problem: str = "") -> TriggerEvent:
    return TriggerEvent({PROBLEM: problem})  # type: ignore[no-untyped-call]


@cache
def _reader() -> ThreadPoolExecutor:
    """The one thread that reads the ledger: with it, the process has one connection to it."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlgov-ledger")


@cache
def _watch() -> LedgerWatch:
    from airflow_mlgov.wiring import open_governance, with_rules_now

    return LedgerWatch(open_governance, with_rules_now)


def _has_answer(awaited: Awaited) -> bool:
    return _watch().has_answer(awaited)
