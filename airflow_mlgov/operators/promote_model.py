"""Promotion: the step that a gate protects, and that protects itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlgov.operators.lineage import LineageMixin
from airflow_mlgov.operators.run import governed_run, source_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.lineage.events import StepLineage
    from airflow_mlgov.service.approvals import Use
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.promote import Promotion


class PromoteModelOperator(LineageMixin, BaseOperator):
    """Point a registry alias at a version whose approval verifies now, and consume that approval.

    In an emergency that somebody declared (``airflow mlgov breakglass use``), it consumes that.

    The operator trusts neither the gate's state nor any XCom. It counts the votes again under the
    policy pack, verifies the ledger under its signed checkpoint, fetches the model and hashes it,
    checks expiry and policy, and consumes the approval once for this dag, run, task and target.
    Killed halfway, its retry completes the same promotion.

    Args:
        model: Id in the inventory. Templated.
        target: Environment. Templated.
        alias: Alias to move in the registry. Templated.
        version: Manifest digest ``sha256:…``; default: the version that the gate of the same run
            asked about, or else that glass was broken for. Templated.
        registry: Registry of the platform file, or an Airflow connection of type ``mlflow``; or
            several, of which the first holds the version. Then the alias moves in all or in none,
            and a registry that lacks the version is given it.

    Returns:
        XCom ``{"model", "version", "registry_version", "target", "alias", "request"}``.

    Raises:
        AirflowFailException: A check failed; its name and the remedy are in the log, the refusal in
            the ledger.
        AirflowException: Ledger or registry cannot be reached; a retry may help.
    """

    template_fields: Collection[str] = ("model", "target", "alias", "version")
    # Inherited, so that the api-server knows a subclass for a promotion (see service/changes).
    custom_operator_name = "PromoteModelOperator"

    def __init__(
        self,
        *,
        model: str,
        target: str = "production",
        alias: str = "champion",
        version: str | None = None,
        registry: str | Sequence[str] = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.target = target
        self.alias = alias
        self.version = version
        self.registry = registry

    def execute(self, context: Context) -> dict[str, Any]:
        """Promote, or refuse."""
        from airflow_mlgov.records.digest import Digest
        from airflow_mlgov.service.allow_use import rests_on
        from airflow_mlgov.service.promote import promote
        from airflow_mlgov.wiring import open_governance, open_registries

        use = self._use(context)
        with governed_run():
            version = Digest.parse(self.version) if self.version else None
            gov, (first, *also) = open_governance(), open_registries(self.registry)
            promotion = promote(gov, first, use, version, also=also)
        self.keep_lineage(lambda: self._lineage_of(gov, promotion))
        clearance, registered = promotion.clearance, promotion.version
        basis = rests_on(clearance)
        self.log.info(
            "Alias %s now points to %s (%s); that rests on %s.",
            self.alias,
            ", ".join(place.uri for place in (registered, *promotion.also)),
            clearance.version,
            basis,
        )
        return {
            "model": self.model,
            "version": str(clearance.version),
            "registry_version": registered.version,
            "target": self.target,
            "alias": self.alias,
            "request": str(basis),
        }

    def _use(self, context: Context) -> Use:
        from airflow_mlgov.service.approvals import Use

        return Use(self.model, self.target, source_of(context), self.alias)

    def lineage_before(self, context: Context | None) -> StepLineage | None:
        """Return the version, and the newest approval of it; the promotion itself may differ."""
        from airflow_mlgov.lineage import events
        from airflow_mlgov.lineage.datasets import read_model
        from airflow_mlgov.operators.lineage_records import asked_for, version_on_record
        from airflow_mlgov.records.digest import Digest
        from airflow_mlgov.service.approvals import approval_of
        from airflow_mlgov.service.promote import version_asked_by_run
        from airflow_mlgov.wiring import open_governance

        if context is None:
            return None
        gov = open_governance()
        view = gov.ledger.view()
        version = (
            Digest.parse(self.version)
            if self.version
            else version_asked_by_run(gov, self._use(context))
        )
        approval = approval_of(gov, view, model=self.model, version=version, target=self.target)
        if approval is None:
            unapproved = version_on_record(gov, view, self.model, version)
            return events.StepLineage(inputs=(read_model(unapproved),))
        return events.promote(asked_for(gov, view, approval.request))

    def _lineage_of(self, gov: Governance, promotion: Promotion) -> StepLineage:
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import (
            checkpoint_facet,
            cleared_by,
            deployment_of,
            version_of,
        )

        clearance, registered = promotion.clearance, promotion.version
        asked = cleared_by(
            clearance, version_of(gov.model(self.model), clearance.version, registered)
        )
        made = deployment_of(
            gov.ledger.view(), asked, registry=registered.registry, alias=self.alias
        )
        checkpoint = checkpoint_facet(gov, "model.promoted", promotion.receipt)
        return events.promote(asked, made).stating(mlgov_checkpoint=checkpoint)
