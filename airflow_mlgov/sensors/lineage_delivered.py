"""Waiting until lineage has arrived where auditors read it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.operators.run import governed_run

if TYPE_CHECKING:
    from airflow.sdk import Context


class LineageDeliveredSensor(BaseSensorOperator):
    """Wait until every lineage event from before this sensor has been delivered.

    Delivered means that the target has stored it and, for a finished run in Marquez, shows it as it
    was sent. The outbox is asked, not the target. The wait fails at once if the target refuses an
    event of this DAG run: it will never arrive.

    Args:
        target: Name of a target in the file of targets; default: all of them. Templated.
        **kwargs: Those of every sensor: ``poke_interval`` (seconds between two looks), ``timeout``,
            ``mode``, ``soft_fail`` ...

    Returns:
        XCom ``{"targets": [names], "delivered_by": time}``.

    Raises:
        AirflowFailException: A target refuses an event of this DAG run, there is no such target, or
            there is no outbox; what to do is in the log.
        AirflowSensorTimeout: It was not delivered in time.
    """

    template_fields: Sequence[str] = ("target",)

    def __init__(self, *, target: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target
        self._began_at = datetime.now(UTC)

    def execute(self, context: Context) -> Any:
        """Note when the wait began, and look until all from before it has arrived."""
        # A task that is rescheduled starts anew with every look.
        self._began_at = context["ti"].get_first_reschedule_date(context) or datetime.now(UTC)
        return super().execute(context)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; a store that is away now is asked again later."""
        with governed_run():
            try:
                return self._look(context)
            except MlgovError as error:
                if not error.retryable:
                    raise
                self.log.warning("Waiting goes on: %s", error)
                return PokeReturnValue(is_done=False)

    def _look(self, context: Context) -> PokeReturnValue:
        from airflow_mlgov.service.delivery import refused_of, waits_from_before
        from airflow_mlgov.wiring import lineage_targets_meant, open_outbox

        outbox, names = open_outbox(), lineage_targets_meant(self.target)
        root = _root_of(context["ti"])
        for name in names:
            refused = refused_of(outbox, name, root)
            if refused:
                raise AirflowFailException(
                    f"{name} will not show all of this DAG run: {'; '.join(refused)}."
                )
        late = [name for name in names if waits_from_before(outbox, name, self._began_at)]
        if late:
            self.log.info("Lineage is on its way to %s.", ", ".join(late))
            return PokeReturnValue(is_done=False)
        found = {"targets": names, "delivered_by": datetime.now(UTC).isoformat()}
        return PokeReturnValue(is_done=True, xcom_value=found)


def _root_of(instance: Any) -> str:
    """Return the run id by which lineage knows the DAG run of a task."""
    from airflow.providers.openlineage.plugins import macros

    return str(macros.lineage_root_run_id(instance))
