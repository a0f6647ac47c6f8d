"""Model validation: the plan that the policy pack fixed, on data old and new to the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.operators.lineage import LineageMixin
from airflow_mlgov.operators.run import governed_run, source_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.lineage.events import StepLineage
    from airflow_mlgov.operators.scoring import Table
    from airflow_mlgov.policy.inventory import InventoryEntry
    from airflow_mlgov.records.digest import Digest
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.ports import Registry, RegistryVersion
    from airflow_mlgov.service.validate_model import ScoredData, Validated, Validation

_LEVELS = {"pass": logging.INFO, "warn": logging.WARNING, "fail": logging.ERROR}


class ValidateModelOperator(LineageMixin, BaseOperator):
    """Run the validation plan of the model's class and put report and findings on record.

    The plan stands in the policy pack, so it was fixed before there were results. The version is
    fetched from the registry, its files are hashed, and the scorer gets exactly those files. A
    failed test is an answer and does not fail the task: it opens a finding, and an open High
    finding keeps the gate from asking. The task fails if the tests could not be run as planned.

    Args:
        model: Id in the inventory. Templated.
        development: CSV or Parquet file that the version was fitted on: byte for byte an input of
            its latest training on record. Templated.
        validation: CSV or Parquet file that it has not seen: an input of none of its trainings.
            Templated.
        target: Column with the outcome, 0 or 1. The scorer does not get it. Templated.
        scorer: ``module:function`` or a function, called as ``scorer(model_dir: Path, frame)``; it
            returns one probability of outcome 1 for each row, in order.
        version: Manifest digest ``sha256:…``; default: the candidate that TrainModelOperator
            registered in the same run. Templated.
        challenger: Manifest digest of the version to compare with; default: the challenger that the
            same run registered, if any. Templated.
        challenger_scorer: As `scorer`, for the challenger; default: the same.
        registry: Registry of the platform file, or an Airflow connection of type ``mlflow``.

    Returns:
        XCom ``{"model", "version", "challenger", "evidence", "passed", "results", "findings"}``,
        for people; nothing decides on it.

    Raises:
        AirflowFailException: Data, model, scorer or plan cannot be used, or the samples are not
            what they are taken for; a retry does not help.
        AirflowException: Ledger or registry cannot be reached; a retry may help.
    """

    template_fields: Collection[str] = (
        "model", "development", "validation", "target", "version", "challenger",
    )  # fmt: skip

    # Inherited, so that a subclass is known for a validation (see service/airflow_records).
    custom_operator_name = "ValidateModelOperator"

    def __init__(
        self,
        *,
        model: str,
        development: str,
        validation: str,
        target: str,
        scorer: str | Callable[[Path, Any], Sequence[float]],
        version: str | None = None,
        challenger: str | None = None,
        challenger_scorer: str | Callable[[Path, Any], Sequence[float]] | None = None,
        registry: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.development = development
        self.validation = validation
        self.target = target
        self.scorer = scorer
        self.version = version
        self.challenger = challenger
        self.challenger_scorer = challenger_scorer
        self.registry = registry

    def execute(self, context: Context) -> dict[str, Any]:
        """Score both samples with the verified version, run the plan, report."""
        with governed_run():
            service = _service()
            from airflow_mlgov.wiring import open_governance, open_registry

            gov = open_governance()
            entry = gov.model(self.model)
            service.plan_of(gov, entry)  # refused before any data is read
            asked, models = self._score(gov, open_registry(self.registry), context)
            validated: Validated = service.validate_model(gov, asked)
            self._report(validated)
            self.keep_lineage(lambda: self._lineage_after(gov, models, asked, validated))
        return {
            "model": self.model,
            "version": str(asked.version),
            "challenger": str(asked.challenger) if asked.challenger else None,
            "evidence": str(validated.evidence),
            "passed": validated.passed,
            "results": validated.counts,
            "findings": [finding.id for finding in validated.findings],
        }

    def lineage_before(self, context: Context | None) -> StepLineage | None:
        """Return the samples, and the versions as the ledger knows them."""
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import version_on_record
        from airflow_mlgov.wiring import open_governance

        if context is None:
            return None
        gov = open_governance()
        view = gov.ledger.view()
        models = [
            version_on_record(gov, view, self.model, digest)
            for digest in self._versions(gov, context)
            if digest
        ]
        samples = [self.data_before(uri) for uri in (self.development, self.validation)]
        return events.validate_model(models, samples)

    def _versions(self, gov: Governance, context: Context) -> tuple[Digest, Digest | None]:
        from airflow_mlgov.records.digest import Digest
        from airflow_mlgov.service.request_approval import candidate_of_run

        view, source = gov.ledger.view(), source_of(context)
        version = (
            Digest.parse(self.version)
            if self.version
            else candidate_of_run(view, self.model, source)
        )
        if self.challenger:
            challenger: Digest | None = Digest.parse(self.challenger)
        else:
            challenger = next(
                (
                    entry.version
                    for entry in reversed(view.select("model.registered", model=self.model))
                    if (entry.source.dag_id, entry.source.run_id) == (source.dag_id, source.run_id)
                    and entry.body["variant"] == "challenger"
                ),
                None,
            )
        if challenger == version:
            raise ConfigurationError(
                f"Version {version} of model {self.model!r} cannot be its own challenger."
            )
        return version, challenger

    def _score(
        self, gov: Governance, registry: Registry, context: Context
    ) -> tuple[Validation, list[tuple[Digest, RegistryVersion]]]:
        from airflow_mlgov.operators.scoring import fetched, read_table, score_table
        from airflow_mlgov.service.validate_model import Validation

        entry = gov.model(self.model)
        version, challenger = self._versions(gov, context)
        tables = [read_table(self.development), read_table(self.validation)]
        for table in tables:
            table.column(self.target)
        with fetched(registry, entry.registered_name, version) as (path, known):
            scores = [score_table(self.scorer, path, table, self.target) for table in tables]
        models, others = [(version, known)], None
        if challenger:
            scorer = self.challenger_scorer or self.scorer
            with fetched(registry, entry.registered_name, challenger) as (path, known):
                others = score_table(scorer, path, tables[1], self.target)
            models.append((challenger, known))
        asked = Validation(
            model=self.model,
            version=version,
            development=self._sample(entry, "development", tables[0], (scores[0], None)),
            validation=self._sample(entry, "validation", tables[1], (scores[1], others)),
            challenger=challenger,
            source=source_of(context),
        )
        return asked, models

    def _sample(
        self, entry: InventoryEntry, name: str, table: Table, scores: tuple[Any, Any]
    ) -> ScoredData:
        from airflow_mlgov.service.validate_model import ScoredData
        from airflow_mlgov.validation.samples import Sample

        protected = {attribute: table.column(attribute) for attribute in entry.protected_attributes}
        sample = Sample(name, table.column(self.target), scores[0], protected, scores[1])
        return ScoredData(table.uri, table.sha256, table.size_bytes, sample)

    def _report(self, validated: Validated) -> None:
        from airflow_mlgov.service.validate_model import describe_result

        for result in validated.results:
            self.log.log(_LEVELS[result.outcome.value], "%s", describe_result(result))
        for finding in validated.findings:
            self.log.warning(
                "Finding %s (%s, due %s): %s",
                finding.id, finding.severity.value, f"{finding.due_at:%Y-%m-%d}", finding.summary,
            )  # fmt: skip
        counts = validated.counts
        self.log.info(
            "Version %s: %s passed, %s to watch, %s failed; report %s.",
            validated.version, counts["pass"], counts["warn"], counts["fail"], validated.evidence,
        )  # fmt: skip

    def _lineage_after(
        self,
        gov: Governance,
        models: Sequence[tuple[Digest, RegistryVersion]],
        asked: Validation,
        validated: Validated,
    ) -> StepLineage:
        from airflow_mlgov.lineage import events
        from airflow_mlgov.lineage.datasets import DataRef
        from airflow_mlgov.lineage.facets import Check
        from airflow_mlgov.operators.lineage_records import (
            checkpoint_facet,
            validation_facet,
            version_of,
        )

        entry = gov.model(self.model)
        step = events.validate_model(
            [version_of(entry, digest, known) for digest, known in models],
            [
                self.placed(DataRef(data.uri, data.sha256, data.sample.rows, data.size_bytes))
                for data in (asked.development, asked.validation)
            ],
            evidence=validated.evidence,
            checks=[Check.of(result) for result in validated.results],
        )
        return step.stating(
            mlgov_validation=validation_facet(entry, asked, validated),
            mlgov_checkpoint=checkpoint_facet(gov, "model.validated", validated.receipt),
        )


def _service() -> Any:
    """Return the service's module, or say what is not installed."""
    from airflow_mlgov.operators.scoring import NEEDS_EXTRA

    try:
        from airflow_mlgov.service import validate_model
    except ImportError as error:
        raise ConfigurationError(
            f"Validating a model needs {error.name}.", remedy=NEEDS_EXTRA
        ) from error
    return validate_model
