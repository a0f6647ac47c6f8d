"""Waiting, in another DAG, for people to decide about a model version."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.operators.run import governed_run

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.service.verify_use import Clearance


class ApprovalSensor(BaseSensorOperator):
    """Wait until a version of a model is approved, and its approval is in force.

    Each look counts the votes again under the policy pack, from the verified ledger, with the
    guards' own checks; neither XComs nor the states of other tasks decide anything. The wait fails
    at once if it is of no use: the version was rejected, its approval has expired or was revoked,
    or the model was stopped. Nothing is put on record.

    The sensor opens nothing: what uses the model afterwards (``@task.governed``) verifies for
    itself, so to mark the sensor as success by hand lets nobody through.

    Args:
        model: Id in the inventory. Templated.
        target: Environment that it is to be approved for. Templated.
        version: Manifest digest ``sha256:…`` to wait for; default: the version that the newest
            request on record for this model and target is about, whenever it was asked. Templated.
        alias: Wait further, until the approved version was promoted to this registry alias, so that
            a guarded task may use it; default: its approval is enough. Templated.
        deferrable: Wait in the triggerer, without a worker slot; default: ``[operators]
            default_deferrable``. The triggerer reads ledger, evidence and rules for that.
        **kwargs: Those of every sensor: ``poke_interval`` (seconds between two looks), ``timeout``,
            ``mode``, ``soft_fail`` ...

    Returns:
        XCom ``{"model", "version", "target", "request", "expires_at"}``, for people and templates.

    Raises:
        AirflowFailException: Waiting is of no use, the ledger does not verify, or the model or
            target is not known; what to do is in the log.
        AirflowSensorTimeout: Nobody decided in time.
    """

    template_fields: Sequence[str] = ("model", "target", "version", "alias")

    def __init__(
        self,
        *,
        model: str,
        target: str = "production",
        version: str | None = None,
        alias: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.target = target
        self.version = version
        self.alias = alias
        self.deferrable = deferrable

    def execute(self, context: Context) -> Any:
        """Look, and wait if there is no answer yet."""
        if not self.deferrable:
            return super().execute(context)
        # By the way of a sensor that is woken, which knows what `soft_fail` does to a refusal.
        return self.resume_execution("execute_complete", None, context)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None, since: str = ""
    ) -> Any:
        """Count for itself whatever woke it, and wait again if there is no answer."""
        if event and event["problem"]:
            raise AirflowFailException(event["problem"])
        found = self.poke(context)
        return found.xcom_value if found else self._defer(since)

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Look once; a ledger that is away now is asked again later."""
        from airflow_mlgov.service.await_decision import Awaited, answer_now
        from airflow_mlgov.wiring import open_governance

        with governed_run():
            awaited = Awaited.named(self.model, self.target, self.version, self.alias)
            try:
                gov = open_governance()
                answer = answer_now(gov, gov.ledger.view(), awaited)
            except MlgovError as error:
                if not error.retryable:
                    raise
                self.log.warning("Waiting goes on: %s", error)
                return PokeReturnValue(is_done=False)
        if answer.clearance is None:
            self.log.info("Model %s waits for %s.", awaited.model, answer.waits_for)
            return PokeReturnValue(is_done=False)
        result = _result(answer.clearance)
        self.log.info("Version %s is approved by request %s.", result["version"], result["request"])
        return PokeReturnValue(is_done=True, xcom_value=result)

    def _defer(self, since: str) -> NoReturn:
        """Wait in the triggerer for what is left of the timeout since the first look."""
        from airflow_mlgov.records.clock import SystemClock
        from airflow_mlgov.triggers.approval import ApprovalTrigger

        now = SystemClock().now()
        began_at = datetime.fromisoformat(since) if since else now
        left = timedelta(seconds=self.timeout) - (now - began_at)
        if left <= timedelta(0):
            raise AirflowSensorTimeout(f"Nobody decided within {self.timeout:g} seconds.")
        self.defer(
            trigger=ApprovalTrigger(
                model=self.model,
                target=self.target,
                version=self.version or None,
                alias=self.alias or "",
                poke_interval=self.poke_interval,
            ),
            method_name="execute_complete",
            kwargs={"since": began_at.isoformat()},
            timeout=left,
        )


def _result(clearance: Clearance) -> dict[str, Any]:
    from airflow_mlgov.records.clock import to_text

    approval = clearance.approval
    return {
        "model": clearance.use.model,
        "version": str(clearance.version),
        "target": clearance.use.target,
        "request": str(approval.request.digest),
        "expires_at": to_text(approval.expires_at) if approval.expires_at else None,
    }
