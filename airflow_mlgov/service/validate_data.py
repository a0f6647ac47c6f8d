"""Validating data: hold it against a suite, keep the result as evidence, then judge."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_mlgov.errors import DataError
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.disclosure import kept_counts, kept_observation
from airflow_mlgov.service.documents import document_bytes
from airflow_mlgov.service.fingerprint import Fingerprint
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, SealedReceipt
from airflow_mlgov.service.suite_file import Expectation, Suite

DOCUMENT_TYPE = "data_validation"
_NAMED_IN_ERROR = 5
_COLUMN_KEYS = ("column", "column_A", "column_B", "column_list")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Observed:
    """What an engine found for one expectation.

    Attributes:
        success: Whether the data holds to it.
        result: Its result as JSON values; `airflow_mlgov.service.disclosure` decides what is kept.
        error: Name of the exception if it could not be evaluated, else empty; never its text, which
            may hold values of rows.
    """

    success: bool
    result: Mapping[str, Any]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """Data that was held against a suite.

    Attributes:
        fingerprint: Of exactly the data that was checked.
        observed: One for each expectation of the suite, in its order.
        engine: What checked it (``great_expectations 1.24.1``).
    """

    fingerprint: Fingerprint
    observed: tuple[Observed, ...]
    engine: str


class CheckableData(Protocol):
    """Data that can be held against a suite.

    Attributes:
        uri: Where it is, without credentials.
        name: What to call it if nobody said.
    """

    @property
    def uri(self) -> str:
        """Where it is."""
        ...

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    def check(self, suite: Suite) -> Checked:
        """Read the data, fingerprint it and hold it against a suite.

        Raises:
            DataError: Missing, unreadable or without rows; a retry does not help.
            DataUnavailableError: Where it comes from cannot be reached; a retry may help.
            DocumentError: The suite asks for what the engine does not know; a retry does not help.
            ConfigurationError: The engine is not installed; a retry does not help.
        """
        ...


@dataclass(frozen=True, slots=True)
class DataValidation:
    """What somebody wants checked.

    Attributes:
        model: Inventory id of the model that the data is for.
        dataset: What to call the data; empty for its own name.
        suite: What it must look like.
        source: Which task asks.
    """

    model: str
    dataset: str
    suite: Suite
    source: Source


@dataclass(frozen=True, slots=True)
class ExpectationOutcome:
    """How one expectation came out.

    Attributes:
        index: Its place in the suite, from 0.
        expectation: What was expected.
        success: Whether the data holds to it.
        counts: How many values were looked at, missing and unexpected; None where unknown.
        observed_value: Statistic that was found, if it may be kept.
        error: Why it could not be evaluated, in words; empty if it could.
    """

    index: int
    expectation: Expectation
    success: bool
    counts: dict[str, int | float | None]
    observed_value: Any
    error: str

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {
            "type": self.expectation.type,
            "kwargs": self.expectation.kwargs,
            "severity": self.expectation.severity,
            "success": self.success,
            **self.counts,
            "observed_value": self.observed_value,
            "error": self.error,
        }

    @property
    def in_words(self) -> str:
        """The outcome as one line for a person, without a row's value."""
        return f"{self.column or 'table'} {self.demand}: {self.finding}"

    @property
    def column(self) -> str:
        """The column or columns that it is about; empty for the whole table."""
        return ", ".join(map(_on_one_line, _columns_of(self.expectation)))

    @property
    def demand(self) -> str:
        """What is expected, in words."""
        return _demand(self.expectation)

    @property
    def finding(self) -> str:
        """What was found, in words."""
        if self.error:
            return self.error
        unexpected, total = self.counts["unexpected_count"], self.counts["element_count"]
        if unexpected is not None and total is not None:
            return f"{unexpected:,} of {total:,} unexpected"
        if self.observed_value is not None:
            return f"found {json.dumps(self.observed_value)}"
        return "holds" if self.success else "does not hold"


@dataclass(frozen=True, slots=True)
class ValidatedData:
    """Data that was checked, with the result on record.

    Attributes:
        dataset: What it is called.
        uri: Where it is, without credentials.
        suite: What it was held against.
        fingerprint: What was checked.
        outcomes: One for each expectation, in the suite's order.
        evidence: Digest of the evidence document.
        receipt: Of ``data.validated``, under a signed checkpoint.
    """

    dataset: str
    uri: str
    suite: Suite
    fingerprint: Fingerprint
    outcomes: tuple[ExpectationOutcome, ...]
    evidence: Digest
    receipt: SealedReceipt

    @property
    def passed(self) -> bool:
        """Whether the data holds to every expectation."""
        return all(outcome.success for outcome in self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """Return what the task hands on, version 1; nothing is decided from it."""
        return {
            "dataset": self.dataset,
            "uri": self.uri,
            "sha256": str(self.fingerprint.sha256),
            "rows": self.fingerprint.rows,
            "columns": len(self.fingerprint.columns),
            "passed": self.passed,
            "evidence": str(self.evidence),
        }

    def refuse_failed(self) -> None:
        """Do nothing if the data passed.

        Raises:
            DataError: It failed an expectation; a retry does not help.
        """
        failed = [outcome for outcome in self.outcomes if not outcome.success]
        if not failed:
            return
        shown = [f"{self._place(outcome)}: {outcome.in_words}" for outcome in failed]
        named = "; ".join(shown[:_NAMED_IN_ERROR])
        more = f"; and {len(failed) - _NAMED_IN_ERROR} more" if shown[_NAMED_IN_ERROR:] else ""
        raise DataError(
            f"Data {self.dataset!r} ({self.uri}) failed {len(failed)} of {len(self.outcomes)} "
            f"expectations of suite {self.suite.name!r}: {named}{more}.",
            remedy="Put the data right, or change the suite in review. "
            f"Every result is kept as evidence {self.evidence}.",
        )

    def _place(self, outcome: ExpectationOutcome) -> str:
        return f"{self.suite.file}:{outcome.expectation.line}: expectations.{outcome.index}"


def validate_data(
    gov: Governance, validation: DataValidation, data: CheckableData
) -> ValidatedData:
    """Hold data against a suite, and keep the result as evidence and in the ledger.

    Whether it passed is said by the result: `ValidatedData.refuse_failed` raises, once the evidence
    of the failure is safe.

    Raises:
        DataError: Missing, unreadable or without rows; a retry does not help.
        DocumentError: The suite asks for what the engine does not know; a retry does not help.
        ConfigurationError: Model not known, or engine not installed; a retry does not help.
        EvidenceError: The evidence cannot be kept; a retry helps once that was seen to.
        DataUnavailableError: Where the data comes from cannot be reached; a retry may help.
        LedgerUnavailableError: The ledger cannot be reached; a retry may help.
    """
    gov.model(validation.model)
    checked = data.check(validation.suite)
    outcomes = tuple(_outcomes(validation.suite, checked))
    _tell(outcomes)
    document: dict[str, Any] = {
        "v": 1,
        "type": DOCUMENT_TYPE,
        "model": validation.model,
        "dataset": unicodedata.normalize("NFC", validation.dataset or data.name),
        "uri": unicodedata.normalize("NFC", data.uri),
        "fingerprint": checked.fingerprint.as_json(),
        "suite": validation.suite.as_json(),
        "engine": checked.engine,
        "passed": all(outcome.success for outcome in outcomes),
        "statistics": _statistics(outcomes),
        "expectations": [outcome.as_json() for outcome in outcomes],
        "created_at": to_text(gov.clock.now()),
    }
    evidence = gov.evidence.put(document_bytes(document))
    receipt = _record(gov, validation, document, evidence)
    return ValidatedData(
        dataset=document["dataset"],
        uri=document["uri"],
        suite=validation.suite,
        fingerprint=checked.fingerprint,
        outcomes=outcomes,
        evidence=evidence,
        receipt=receipt,
    )


def _tell(outcomes: tuple[ExpectationOutcome, ...]) -> None:
    for outcome in outcomes:
        level = logging.INFO if outcome.success else logging.ERROR
        _log.log(level, "%s  %s", "PASS" if outcome.success else "FAIL", outcome.in_words)


def _outcomes(suite: Suite, checked: Checked) -> Iterator[ExpectationOutcome]:
    rows = checked.fingerprint.rows
    pairs = zip(suite.expectations, checked.observed, strict=True)
    for index, (expectation, observed) in enumerate(pairs):
        value = observed.result.get("observed_value")
        yield ExpectationOutcome(
            index=index,
            expectation=expectation,
            success=observed.success and not observed.error,
            counts=kept_counts(observed.result),
            observed_value=kept_observation(expectation.type, value, rows),
            error=_error_in_words(expectation, checked.fingerprint, observed.error),
        )


def _error_in_words(expectation: Expectation, data: Fingerprint, error: str) -> str:
    if not error:
        return ""
    types = {column.name: column.type for column in data.columns}
    columns = _columns_of(expectation)
    missing = [name for name in columns if name not in types]
    if missing:
        return f"the data has no column {', '.join(map(repr, missing))}"
    typed = ", ".join(f"{_on_one_line(name)} is {types[name]}" for name in columns)
    return f"could not be evaluated ({error}{'; ' if typed else ''}{typed})"


def _columns_of(expectation: Expectation) -> list[str]:
    names: list[str] = []
    for key in _COLUMN_KEYS:
        value = expectation.kwargs.get(key, [])
        names += value if isinstance(value, list) else [str(value)]
    return names


def _on_one_line(name: str) -> str:
    """Return a column's name so that it cannot pass for a line of the log of its own."""
    return name if name.isprintable() else json.dumps(name)


def _demand(expectation: Expectation) -> str:
    words = expectation.type.removeprefix("expect_").removeprefix("table_")
    words = words.removeprefix("column_").replace("_", " ")
    asked = {k: v for k, v in expectation.kwargs.items() if k not in _COLUMN_KEYS}
    return f"{words} {json.dumps(asked, sort_keys=True)}" if asked else words


def _statistics(outcomes: tuple[ExpectationOutcome, ...]) -> dict[str, int]:
    passed = sum(outcome.success for outcome in outcomes)
    return {"evaluated": len(outcomes), "passed": passed, "failed": len(outcomes) - passed}


def _record(
    gov: Governance, validation: DataValidation, document: dict[str, Any], evidence: Digest
) -> SealedReceipt:
    source = validation.source
    task = (source.dag_id, source.run_id, source.task_id, str(source.map_index))
    fingerprint = document["fingerprint"]
    receipt = gov.ledger.append(
        EntryDraft(
            kind="data.validated",
            model=validation.model,
            version=None,
            body={
                "dataset": document["dataset"],
                "uri": document["uri"],
                "sha256": fingerprint["sha256"],
                "rows": fingerprint["rows"],
                "columns": fingerprint["columns"],
                "passed": document["passed"],
                "evidence_sha256": str(evidence),
            },
            # A second try looks at the data again, and what it sees is another entry.
            identity=(validation.model, *task, str(evidence)),
            source=source,
        )
    )
    return gov.ledger.seal(receipt)
