"""How our operators tell the OpenLineage provider what they read and wrote.

An operator that takes part (the class names `LineageMixin` before its Airflow base class) does two
things:

1. It overrides `lineage_before`: what can be said from the rendered fields and the ledger before
   anything runs. The provider asks for it when the task starts, in a process forked off the task
   (10 s at most); sources are registered there, ahead of the START event.
2. In ``execute`` it calls ``self.keep_lineage(lambda: events.train(...))`` once its work is on
   record (also right before it raises, if what it wrote is kept: a failed data validation has its
   report). That stands on the terminal event. If it never came so far, the terminal event repeats
   what `lineage_before` says: the same inputs, no outputs.

Where the provider is missing or has no transport, nothing of this runs and nothing is imported.
Lineage records and never refuses: an error in it is a warning in the task's log.
The gate is no such operator: its request and its decision are runs of their own (`ApprovalRuns`),
since the task itself starts anew with every answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_mlgov.lineage.datasets import ApprovalRef, DataRef, Dataset
    from airflow_mlgov.lineage.events import StepLineage

log = logging.getLogger(__name__)

T = TypeVar("T")

HASH_LIMIT_BYTES = 2 * 1024**3
"""Larger files stand on the terminal event only: the START event may take 10 s, then it is lost."""


class LineageMixin:
    """Gives an operator the three methods that the OpenLineage provider looks for."""

    _lineage: StepLineage | None = None
    _lineage_context: Context | None = None

    def lineage_before(self, context: Context | None) -> StepLineage | None:
        """Return what is known before the task's work; override it.

        Args:
            context: Of the task; None for a mapped task, which Airflow renders another way.

        Raises:
            MlgovError: Something cannot be named or looked up; it is logged, and the event goes out
                without it.
        """
        del context
        return None

    def keep_lineage(self, build: Callable[[], StepLineage]) -> None:
        """Note what the task read and wrote, for its terminal event.

        Args:
            build: Makes the step; called now, and only if somebody listens.
        """
        if is_listening():
            self._lineage = quietly(build)

    def render_template_fields(
        self, context: Context, jinja_env: jinja2.Environment | None = None
    ) -> None:
        """Render as Airflow does, and keep the context: the provider does not give it later."""
        super().render_template_fields(context, jinja_env)  # type: ignore[misc]
        self._lineage_context = context

    def get_openlineage_facets_on_start(self) -> OperatorLineage | None:
        """Register the sources and return what the task is about to read."""
        step = quietly(lambda: self.lineage_before(self._lineage_context))
        if step is not None:
            _register(step.sources(known_at_start=True), self._started_at())
        return _converted(step.at_start() if step else None)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage | None:
        """Return what the task read and wrote."""
        del task_instance
        step = self._lineage
        if step is None:
            before = quietly(lambda: self.lineage_before(self._lineage_context))
            return _converted(before.at_start() if before else None)
        _register(step.sources(known_at_start=False), datetime.now(UTC))
        return _converted(step)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage | None:
        """Return what the task read, and what it wrote and kept before it failed."""
        return self.get_openlineage_facets_on_complete(task_instance)

    def _started_at(self) -> datetime:
        context: Mapping[str, Any] = self._lineage_context or {}
        started = getattr(context.get("ti"), "start_date", None)
        return started if isinstance(started, datetime) else datetime.now(UTC)


class ApprovalRuns:
    """The runs ``<dag>.<gate>.request`` and ``<dag>.<gate>.decide``, with their true times.

    Ids and times come from the ledger, so a gate that is cleared or retried sends the very same
    events again, in order and up to the same end.

    Args:
        gate: The operator.
        context: Its task's context.
    """

    def __init__(self, gate: Any, context: Context) -> None:
        self._gate = gate
        self._instance = context["ti"]

    def request(self, asked: Callable[[], tuple[ApprovalRef, list[Dataset]]], at: datetime) -> None:
        """Say that a request is on record and that it waits.

        Args:
            asked: Gives the request and the records that it rests on.
            at: When it was put on record.
        """
        from airflow_mlgov.lineage import events

        def send() -> None:
            ref, evidence = asked()
            self._emit(
                events.request(ref, evidence), ref, "request", ("START", at), ("COMPLETE", at)
            )
            self._emit(events.decide(ref, is_granted=None), ref, "decide", ("START", at))

        if self._is_wanted():
            quietly(send)

    def decide(
        self,
        asked: Callable[[], ApprovalRef],
        at: datetime,
        *,
        is_granted: bool,
        facts: dict[str, str],
    ) -> None:
        """Say how it was decided.

        Args:
            asked: Gives the request.
            at: When the deciding vote was cast.
            is_granted: What was decided.
            facts: What to show of the decision.
        """
        from airflow_mlgov.lineage import events

        def send() -> None:
            ref = asked()
            step = events.decide(ref, is_granted=is_granted, facts=facts)
            self._emit(step, ref, "decide", ("COMPLETE", at))

        if self._is_wanted():
            quietly(send)

    def _emit(
        self, step: StepLineage, ref: ApprovalRef, part: str, *states: tuple[str, datetime]
    ) -> None:
        from airflow.providers.openlineage.api import emit
        from airflow.providers.openlineage.plugins import macros

        from airflow_mlgov.lineage import emission

        job = f"{macros.lineage_job_name(self._instance)}.{part}"
        parent = emission.parent_of(
            macros.lineage_parent_id(self._instance), macros.lineage_root_parent_id(self._instance)
        )
        run_id = emission.approval_run_id(ref.request, part)
        run = emission.Run(macros.lineage_job_namespace(), job, run_id, parent)
        for state, at in states:
            said = step if state == "COMPLETE" else step.at_start()
            emit(emission.run_event(said, run, state, at))

    def _is_wanted(self) -> bool:
        """Whether somebody listens, and the emission policy lets this gate's events out."""
        if not is_listening():
            return False
        from airflow.providers.openlineage.utils.emission_policy import resolve_task_emission_policy

        policy = resolve_task_emission_policy(
            operator=self._gate, dag_id=self._instance.dag_id, task_id=self._instance.task_id
        )
        return bool(policy.emit)


def file_before(uri: str, file: Path) -> DataRef:
    """Return a file as it is before the task reads it, named by its content if that is quick.

    Args:
        uri: What to call it.
        file: The file.

    Raises:
        MlgovError: It cannot be read; a retry does not help.
    """
    from airflow_mlgov.lineage.datasets import DataRef
    from airflow_mlgov.service.artefacts import fingerprint_file

    if not is_known_before(file):
        return DataRef(uri, is_known_at_start=False)
    digest, size_bytes = fingerprint_file(file)
    return DataRef(uri, digest, size_bytes=size_bytes)


def is_known_before(file: Path) -> bool:
    """Tell whether a file is small enough to be hashed for the START event (`HASH_LIMIT_BYTES`)."""
    return not file.is_file() or file.stat().st_size <= HASH_LIMIT_BYTES


def is_listening() -> bool:
    """Tell whether the OpenLineage provider is installed and has somewhere to send events to."""
    try:
        from airflow.providers.openlineage import conf
    except ImportError:
        return False
    return not conf.is_disabled()


def quietly(build: Callable[[], T]) -> T | None:
    """Call something that lineage needs; an error in it is a warning and None."""
    try:
        return build()
    except Exception as error:
        log.warning("Lineage of this task is incomplete: %s", error)
        log.debug("Why lineage is incomplete", exc_info=True)
        return None


def _register(sources: tuple[Dataset, ...], at: datetime) -> None:
    if not sources:
        return
    from airflow.providers.openlineage.api import emit
    from airflow.providers.openlineage.plugins.macros import lineage_job_namespace

    from airflow_mlgov.lineage.emission import registration

    for source in sources:
        quietly(lambda source=source: emit(registration(source, lineage_job_namespace(), at)))  # type: ignore[misc]


def _converted(step: StepLineage | None) -> OperatorLineage | None:
    from airflow_mlgov.lineage.emission import operator_lineage
    from airflow_mlgov.lineage.events import StepLineage as Nothing

    return quietly(lambda: operator_lineage(step or Nothing()))
