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
The gate is no such operator: its request and its decision are runs of their own
(`airflow_mlgov.operators.approval_runs`), since the task itself starts anew with every answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from airflow_mlgov.hooks.listening import is_listening

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import BaseOperator, Context

    from airflow_mlgov.lineage.datasets import DataRef, Dataset
    from airflow_mlgov.lineage.events import StepLineage

log = logging.getLogger(__name__)

T = TypeVar("T")

HASH_LIMIT_BYTES = 2 * 1024**3
"""Larger files stand on the terminal event only: the START event may take 10 s, then it is lost."""


class LineageMixin:
    """Gives an operator the three methods that the OpenLineage provider looks for."""

    _lineage: StepLineage | None = None
    _lineage_context: Context | None = None
    _written_before: frozenset[str] = frozenset()

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

    def data_before(self, uri: str) -> DataRef:
        """Return data as it is before the task reads it, with the digest of a local file.

        Args:
            uri: Path or URI.

        Raises:
            OSError: The file cannot be read.
        """
        from airflow_mlgov.lineage.datasets import DataRef
        from airflow_mlgov.service.artefacts import fingerprint_file

        file = local_file(uri)
        if file is None:
            return self.placed(DataRef(uri))
        if not _is_quick_to_hash(file):
            return DataRef(uri, is_known_at_start=False)
        digest, size_bytes = fingerprint_file(file)
        return self.placed(DataRef(uri, digest, size_bytes=size_bytes))

    def placed(self, data: DataRef) -> DataRef:
        """Return data with what the DAG says about it: whether a task before this one writes it.

        Args:
            data: What the task reads, named as `data_before` names it or as only reading it shows.
        """
        file = local_file(data.uri)
        is_known = data.digest is None or (file is not None and _is_quick_to_hash(file))
        has_writer = file is not None and str(file.absolute()) in self._written_before
        return replace(data, is_known_at_start=is_known, has_writer=has_writer)

    def _outputs_upstream(self, context: Context) -> frozenset[str]:
        """Paths that tasks upstream in this DAG name as their outputs, rendered for this run."""
        task = cast("BaseOperator", self)
        dag = task.get_dag()
        if dag is None:
            return frozenset()
        before = [dag.get_task(name) for name in task.get_flat_relative_ids(upstream=True)]
        stated = [uri for other in before for uri in getattr(other, "file_outputs", ())]
        files = [local_file(str(task.render_template(uri, context))) for uri in stated]
        return frozenset(str(file.absolute()) for file in files if file is not None)

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
        if is_listening():
            # Here and not when the provider asks: that is a fork, which must not ask Airflow.
            self._written_before = quietly(lambda: self._outputs_upstream(context)) or frozenset()

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any] | None:
        """Register the sources and return what the task is about to read."""
        step = quietly(lambda: self.lineage_before(self._lineage_context))
        if step is not None:
            _register(step.sources(known_at_start=True), self._started_at())
        return _converted(step.at_start() if step else None)

    def get_openlineage_facets_on_complete(
        self, task_instance: Any
    ) -> OperatorLineage[Any, Any] | None:
        """Return what the task read and wrote."""
        del task_instance
        step = self._lineage
        if step is None:
            before = quietly(lambda: self.lineage_before(self._lineage_context))
            return _converted(before.at_start() if before else None)
        _register(step.sources(known_at_start=False), datetime.now(UTC))
        return _converted(step)

    def get_openlineage_facets_on_failure(
        self, task_instance: Any
    ) -> OperatorLineage[Any, Any] | None:
        """Return what the task read, and what it wrote and kept before it failed."""
        return self.get_openlineage_facets_on_complete(task_instance)

    def _started_at(self) -> datetime:
        context: Mapping[str, Any] = self._lineage_context or {}
        started = getattr(context.get("ti"), "start_date", None)
        return started if isinstance(started, datetime) else datetime.now(UTC)


def local_file(uri: str) -> Path | None:
    """Return the file that a path or ``file:///`` URL names; None for anything else."""
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return Path(unquote(parts.path))
    return Path(uri) if len(parts.scheme) <= 1 else None


def _is_quick_to_hash(file: Path) -> bool:
    return not file.is_file() or file.stat().st_size <= HASH_LIMIT_BYTES


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
    from airflow.providers.openlineage import conf
    from airflow.providers.openlineage.api import emit

    from airflow_mlgov.lineage.emission import registration

    for source in sources:
        quietly(lambda source=source: emit(registration(source, conf.namespace(), at)))  # type: ignore[misc]


def _converted(step: StepLineage | None) -> OperatorLineage[Any, Any] | None:
    from airflow_mlgov.lineage.emission import operator_lineage
    from airflow_mlgov.lineage.events import StepLineage as Nothing

    return quietly(lambda: operator_lineage(step or Nothing()))
