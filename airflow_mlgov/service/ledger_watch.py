"""One reading of the ledger for everybody who waits in a process.

A thousand sensors wait in one triggerer. The store is asked whether anything is new, at most once a
second for all of them; it is read when something is; and a wait is counted again when something new
is about its model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from airflow_mlgov.errors import DocumentError, GuardRefusedError, MlgovError
from airflow_mlgov.ledger.view import claims_of
from airflow_mlgov.service.await_decision import Awaited, answer_now
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView

log = logging.getLogger(__name__)

FRESH_S = 1.0
"""Seconds for which what was read last is not asked about again."""

RECOUNT_S = 600.0
"""Seconds after which all is counted again: time passes, and rules change, without an entry."""

LONGEST_PAUSE_S = 60.0
"""Seconds at most for which a store that failed is left alone."""


class LedgerWatch:
    """Tells many who wait whether there is an answer for them; for one thread at a time.

    Args:
        open_governance: Opens ledger and rules for the first time, and after what went wrong.
        with_rules_now: Returns the same governance with the rules as they stand now.
        elapsed: Seconds from some moment on.
    """

    def __init__(
        self,
        open_governance: Callable[[], Governance],
        with_rules_now: Callable[[Governance], Governance],
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_governance = open_governance
        self._with_rules_now = with_rules_now
        self._elapsed = elapsed
        self._read: tuple[Governance, LedgerView] | None = None
        self._ask_at = self._recount_at = elapsed()
        self._failed: MlgovError | None = None
        self._pause_s = 0.0
        self._waiting: set[Awaited] = set()

    def has_answer(self, awaited: Awaited) -> bool:
        """Return whether waiting longer is of no use: it is approved, or will not be.

        Raises:
            LedgerUnavailableError: The store is away, and is left alone for a while that grows; a
                retry may help.
            MlgovError: Ledger, evidence or rules are not in order; a retry does not help.
        """
        gov, view = self._reading()
        if awaited in self._waiting:
            return False
        try:
            answer = answer_now(gov, view, awaited)
        except GuardRefusedError:
            return True
        except MlgovError as error:
            if error.retryable:
                self._leave_alone(error)
            raise
        if answer.clearance is None:
            self._waiting.add(awaited)
        return answer.clearance is not None

    def _reading(self) -> tuple[Governance, LedgerView]:
        now = self._elapsed()
        if now < self._ask_at:
            if self._failed is not None:
                raise self._failed.with_traceback(None)
            if self._read is not None:
                return self._read
        try:
            self._read = self._read_again(now)
        except MlgovError as error:
            self._leave_alone(error)
            raise
        self._failed, self._pause_s = None, 0.0
        self._ask_at = self._elapsed() + FRESH_S
        return self._read

    def _leave_alone(self, error: MlgovError) -> None:
        """Tell everybody the same for a while, instead of letting each of them try."""
        self._pause_s = min(max(2 * self._pause_s, FRESH_S), LONGEST_PAUSE_S)
        self._failed, self._ask_at = error, self._elapsed() + self._pause_s
        if not error.retryable:
            self._read = None  # whoever sees to it may exchange keys or ledger

    def _read_again(self, now: float) -> tuple[Governance, LedgerView]:
        if self._read is None:
            gov = self._open_governance()
            view = gov.ledger.view()
            self._count_all_again(now)
            return gov, view
        gov, view = self._read
        is_due = now >= self._recount_at
        if gov.ledger.head().note != view.checkpoint.note.encode("utf-8"):
            known, view = view.checkpoint.size, gov.ledger.view()
            about = {claims_of(leaf)[1] for leaf in view.leaves_from(known)}
            self._waiting = {one for one in self._waiting if one.model not in about}
        elif not is_due:
            return gov, view
        if is_due:
            self._count_all_again(now)
        return self._with_newer_rules(gov), view

    def _count_all_again(self, now: float) -> None:
        self._recount_at = now + RECOUNT_S
        self._waiting.clear()

    def _with_newer_rules(self, gov: Governance) -> Governance:
        try:
            return self._with_rules_now(gov)
        except DocumentError as error:
            # Somebody is at work on the files: no reason to end a thousand waits. Who is woken
            # reads the rules anew.
            log.warning("Waiting goes on under the rules as they were: %s", error)
            return gov
