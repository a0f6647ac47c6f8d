"""Validating a model version: run the plan that the pack fixed, keep the report, open findings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_mlgov.errors import ConfigurationError, DataError
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Finding, Outcome, TestResult
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.findings import finding_id, open_findings, severity_rank
from airflow_mlgov.service.ledger import EntryDraft, SealedReceipt
from airflow_mlgov.service.request_approval import put_pack_on_record
from airflow_mlgov.service.sample_origin import refuse_mistaken_samples
from airflow_mlgov.validation.curves import plot_data
from airflow_mlgov.validation.discrimination import compare_aucs
from airflow_mlgov.validation.plan import check_plan, run_plan
from airflow_mlgov.validation.samples import Sample, Samples

if TYPE_CHECKING:
    from airflow_mlgov.policy.inventory import InventoryEntry
    from airflow_mlgov.policy.pack import PlannedTest, PolicyPack
    from airflow_mlgov.service.governance import Governance

REPORT_TYPE = "validation_report"
REPORT_VERSION = 1


@dataclass(frozen=True, slots=True)
class ScoredData:
    """A sample and the bytes that it was read from.

    Attributes:
        uri: Where it was read, without credentials.
        sha256: Digest of those bytes.
        size_bytes: How many they are.
        sample: Outcomes and probabilities.
    """

    uri: str
    sha256: Digest
    size_bytes: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class Validation:
    """What is to be validated, on what.

    Attributes:
        model: Inventory id.
        version: Manifest digest of the version that gave the probabilities.
        development: What the version was fitted on.
        validation: What it has not seen.
        challenger: Manifest digest of the version that gave the challenger's probabilities, if any.
        source: Which task validates.
    """

    model: str
    version: Digest
    development: ScoredData
    validation: ScoredData
    challenger: Digest | None = None
    source: Source = field(default_factory=Source)


@dataclass(frozen=True, slots=True)
class Validated:
    """How a validation came out.

    Attributes:
        model: Inventory id.
        version: Manifest digest.
        evidence: Digest of the report.
        results: In the plan's order.
        findings: What the failed tests opened, or had opened before.
        planned: The plan, as the report has it.
        policy: Digest of the pack that fixed it.
        receipt: Of ``model.validated``, under a signed checkpoint.
    """

    model: str
    version: Digest
    evidence: Digest
    results: tuple[TestResult, ...]
    findings: tuple[Finding, ...]
    planned: tuple[Mapping[str, Any], ...]
    policy: Digest
    receipt: SealedReceipt

    @property
    def passed(self) -> bool:
        """Whether no test failed; warnings pass."""
        return has_passed(self.results)

    @property
    def counts(self) -> dict[str, int]:
        """Number of results by outcome."""
        return count_outcomes(self.results)


def plan_of(gov: Governance, entry: InventoryEntry) -> tuple[PlannedTest, ...]:
    """Return the validation plan that the pack fixes for a model's class, checked.

    Raises:
        ConfigurationError: There is none, or it cannot be run as it is written; a retry does not
            help.
    """
    pack = gov.pack_for(entry)
    if entry.model_class not in pack.plans:
        known = ", ".join(sorted(pack.plans)) or "none"
        raise ConfigurationError(
            f"{pack.file}: pack {pack.id!r} has no validation plan for model class "
            f"{entry.model_class!r}; it has: {known}.",
            remedy="Add a plan, or correct 'model_class' in the inventory file.",
        )
    plan = pack.plans[entry.model_class]
    check_plan(plan)
    return plan


def validate_model(gov: Governance, asked: Validation) -> Validated:
    """Run the model's validation plan and put report and findings on record.

    Findings are written before ``model.validated``: a version never counts as validated while a
    finding of that validation is still to come. Failed tests are an answer, not an error.

    Args:
        gov: Ledger, evidence and rules.
        asked: What to validate.

    Raises:
        ConfigurationError: Model, pack or plan is missing or wrong; a retry does not help.
        DataError: The samples are not what the version learnt from and what it has not seen, or a
            test gave a number that is not finite; a retry does not help.
        LedgerUnavailableError: The ledger cannot be written; a retry may help.

    Source:
        SS1/23 principle 4 (validation); SR 26-2: outcomes analysis; the plan is fixed before
        results exist.
    """
    entry = gov.model(asked.model)
    plan = plan_of(gov, entry)
    pack = gov.pack_for(entry)
    refuse_mistaken_samples(
        gov.ledger.view(),
        asked.model,
        asked.version,
        development=asked.development,
        validation=asked.validation,
    )
    samples = Samples(asked.development.sample, asked.validation.sample)
    results = tuple(run_plan(samples, plan))
    now = gov.clock.now()
    findings = _findings(entry, asked.version, plan, results, now)
    document = _document(asked, entry, pack, results)
    document["findings"] = [_finding_json(finding) for finding in findings]
    document["created_at"] = to_text(now)
    evidence = gov.evidence.put(_encode(document))
    put_pack_on_record(gov, gov.ledger.view(), pack)
    _open_findings(gov, asked, entry, evidence, list(zip(findings, _failed(results), strict=True)))
    sealed = _put_on_record(gov, asked, evidence, pack, results)
    return Validated(
        model=entry.id,
        version=asked.version,
        evidence=evidence,
        results=results,
        findings=findings,
        planned=tuple(document["planned"]),
        policy=pack.digest,
        receipt=sealed,
    )


def _put_on_record(
    gov: Governance,
    asked: Validation,
    evidence: Digest,
    pack: PolicyPack,
    results: Sequence[TestResult],
) -> SealedReceipt:
    body = {
        "evidence_sha256": str(evidence),
        "plan": gov.model(asked.model).model_class,
        "policy_sha256": str(pack.digest),
        "passed": has_passed(results),
        "results": count_outcomes(results),
    }
    receipt = gov.ledger.append(
        EntryDraft(
            kind="model.validated",
            model=asked.model,
            version=asked.version,
            body=body,
            identity=(asked.model, str(asked.version), str(evidence)),
            source=asked.source,
        )
    )
    return gov.ledger.seal(receipt)


def has_passed(results: Sequence[TestResult]) -> bool:
    """Return whether no test failed."""
    return all(result.outcome is not Outcome.FAIL for result in results)


def count_outcomes(results: Sequence[TestResult]) -> dict[str, int]:
    """Return the number of results by outcome, all three named."""
    return {
        outcome.value: sum(result.outcome is outcome for result in results) for outcome in Outcome
    }


def describe_result(result: TestResult) -> str:
    """Return a result as one line in plain words, for a log or a finding.

    Args:
        result: Of any test.
    """
    title = result.title if result.statistic is None else f"{result.title} {result.statistic:.4g}"
    p_value = result.details.get("p_value")
    shown = [f"p {p_value:.3g}"] if isinstance(p_value, float) else []
    shown += [result.threshold]
    shown += [str(result.details[why]) for why in ("not_computed", "note") if why in result.details]
    line = f"{result.outcome.value.upper()} {title} ({'; '.join(shown)})"
    return " ".join(line.split())


def _failed(results: Sequence[TestResult]) -> list[TestResult]:
    return [result for result in results if result.outcome is Outcome.FAIL]


def _findings(
    entry: InventoryEntry,
    version: Digest,
    plan: Sequence[PlannedTest],
    results: Sequence[TestResult],
    now: datetime,
) -> tuple[Finding, ...]:
    planned = {line.test: line for line in plan}
    return tuple(
        Finding(
            id=finding_id(entry.id, version, result.test, result.segment),
            model=entry.id,
            version=version,
            severity=planned[result.test].severity,
            test=result.test,
            summary=describe_result(result).removeprefix("FAIL").strip(),
            owner=entry.owner,
            due_at=now + timedelta(days=planned[result.test].due_days),
        )
        for result in _failed(results)
    )


def _open_findings(
    gov: Governance,
    asked: Validation,
    entry: InventoryEntry,
    evidence: Digest,
    failures: Sequence[tuple[Finding, TestResult]],
) -> None:
    known = {
        finding.id: finding
        for finding in open_findings(gov.ledger.view(), entry.id)
        if finding.version == asked.version
    }
    for finding, result in failures:
        before = known.get(finding.id)
        if before and severity_rank(before.severity) >= severity_rank(finding.severity):
            continue
        gov.ledger.append(
            EntryDraft(
                kind="finding.opened",
                model=entry.id,
                version=asked.version,
                body={
                    "finding": finding.id,
                    "severity": finding.severity.value,
                    "test": finding.test,
                    "due_at": to_text(finding.due_at),
                    "evidence_sha256": str(evidence),
                    "segment": result.segment,
                },
                identity=(finding.id, str(evidence)),
                people={"owner": Person(entry.owner, entry.owner)},
                texts={"summary": finding.summary},
                source=asked.source,
            )
        )


def _document(
    asked: Validation, entry: InventoryEntry, pack: PolicyPack, results: Sequence[TestResult]
) -> dict[str, Any]:
    return {
        "type": REPORT_TYPE,
        "v": REPORT_VERSION,
        "model": entry.id,
        "version": str(asked.version),
        "plan": entry.model_class,
        "planned": [_planned_json(planned) for planned in pack.plans[entry.model_class]],
        "policy": pack.id,
        "policy_sha256": str(pack.digest),
        "data": {
            data.sample.name: _data_json(data) for data in (asked.development, asked.validation)
        },
        "results": [result.as_json() for result in results],
        "passed": has_passed(results),
        "counts": count_outcomes(results),
        "challenger": _challenger_json(asked),
        "plots": {
            data.sample.name: plot_data(data.sample)
            for data in (asked.development, asked.validation)
        },
        "source": asked.source.as_json(),
    }


def _planned_json(planned: PlannedTest) -> dict[str, Any]:
    return {
        "test": planned.test,
        "thresholds": planned.thresholds,
        "severity": planned.severity.value,
        "due_days": planned.due_days,
        "options": planned.options,
    }


def _data_json(data: ScoredData) -> dict[str, Any]:
    sample = data.sample
    return {
        "uri": data.uri,
        "sha256": str(data.sha256),
        "size_bytes": data.size_bytes,
        "rows": sample.rows,
        "events": sample.events,
        "protected": sorted(sample.protected),
    }


def _challenger_json(asked: Validation) -> dict[str, Any] | None:
    sample = asked.validation.sample
    if sample.challenger is None:
        return None
    found = compare_aucs(sample.y, sample.p, sample.challenger)
    return {
        "version": str(asked.challenger) if asked.challenger else None,
        "champion_auc": found.first,
        "challenger_auc": found.second,
        "z": found.z,
        "p_value": found.p_value,
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "finding": finding.id,
        "severity": finding.severity.value,
        "test": finding.test,
        "summary": finding.summary,
        "due_at": to_text(finding.due_at),
    }


def _encode(document: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    except ValueError as error:
        raise DataError(
            "The validation report holds a number that is not finite; nothing of it was kept."
        ) from error
    return text.encode("utf-8")
