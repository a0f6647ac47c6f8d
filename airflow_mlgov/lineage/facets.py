"""Standard OpenLineage facets as plain values, and which class of the client each becomes.

Our own facets are what their schemas say (`airflow_mlgov.lineage.facet_schemas`).

A facet here is what stands in its JSON, without ``_producer`` and ``_schemaURL``;
`airflow_mlgov.lineage.emission` adds those. Every facet is kept small: an event stays under 50 kB,
and what is longer is named by its digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from airflow_mlgov import __version__
from airflow_mlgov.lineage.names import DatasetName
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Outcome, TestResult

Facet: TypeAlias = Mapping[str, Any]
Facets: TypeAlias = Mapping[str, Facet]

PRODUCER = f"urn:airflow-mlgov:{__version__}"
"""Who states our facets; without it the provider would name itself."""

MAX_ITEMS = 40
"""Checks, parameters or fields that one facet lists, failures first; evidence has them all."""

MAX_TEXT = 120
"""Characters of one value in a facet."""

MAX_DOCUMENTATION = 4_000
"""Characters of a description."""

CLASSES = MappingProxyType(
    {
        "columnLineage": ("column_lineage_dataset", "ColumnLineageDatasetFacet"),
        "dataQualityAssertions": (
            "data_quality_assertions_dataset",
            "DataQualityAssertionsDatasetFacet",
        ),
        "datasetType": ("dataset_type_dataset", "DatasetTypeDatasetFacet"),
        "documentation": ("documentation_dataset", "DocumentationDatasetFacet"),
        "executionParameters": ("execution_parameters_run", "ExecutionParametersRunFacet"),
        "externalQuery": ("external_query_run", "ExternalQueryRunFacet"),
        "inputStatistics": ("input_statistics_input_dataset", "InputStatisticsInputDatasetFacet"),
        "jobType": ("job_type_job", "JobTypeJobFacet"),
        "outputStatistics": (
            "output_statistics_output_dataset",
            "OutputStatisticsOutputDatasetFacet",
        ),
        "ownership": ("ownership_dataset", "OwnershipDatasetFacet"),
        "parent": ("parent_run", "ParentRunFacet"),
        "schema": ("schema_dataset", "SchemaDatasetFacet"),
        "sourceCodeLocation": ("source_code_location_job", "SourceCodeLocationJobFacet"),
        "tags": ("tags_dataset", "TagsDatasetFacet"),
        "test": ("test_run", "TestRunFacet"),
        "version": ("dataset_version_dataset", "DatasetVersionDatasetFacet"),
    }
)
"""Module of ``openlineage.client.facet_v2`` and class by key."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check that was made on data or on a model.

    Attributes:
        name: Which check (``expect_column_values_to_be_between``, ``discrimination.auc``).
        passed: Whether it found nothing wrong.
        blocking: Whether not passing stops anything; else it is a warning.
        column: Column that it looked at; empty for the whole.
        title: For people.
        expected: The rule, as text.
        actual: What was found, as text.
    """

    name: str
    passed: bool
    blocking: bool = True
    column: str = ""
    title: str = ""
    expected: str = ""
    actual: str = ""

    @classmethod
    def of(cls, result: TestResult) -> Check:
        """Return the check that a validation test's result states."""
        return cls(
            name=f"{result.test}[{result.segment}]" if result.segment else result.test,
            passed=result.outcome is Outcome.PASS,
            blocking=result.outcome is not Outcome.WARN,
            title=result.title,
            expected=result.threshold,
            actual="" if result.statistic is None else f"{result.statistic:.6g}",
        )


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are known: neither None nor an empty text."""
    return {key: value for key, value in values.items() if value not in (None, "")}


def digest_of(value: Any) -> Digest:
    """Return the digest of JSON values: keys sorted, no spaces, ASCII only."""
    return Digest.of(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii"))


def dataset_type(kind: str, sub_type: str = "") -> Facet:
    """Return ``datasetType``: ``FILE``, ``TABLE``, ``MODEL`` ... and what kind of it."""
    return known({"datasetType": kind, "subType": sub_type})


def version(digest: Digest) -> Facet:
    """Return ``version``: the digest of the content, which is what a version is here."""
    return {"datasetVersion": str(digest)}


def documentation(text: str, content_type: str = "text/plain") -> Facet:
    """Return ``documentation``; an empty text is not allowed by what reads it."""
    return {"description": _short(text, MAX_DOCUMENTATION), "contentType": content_type}


def ownership(owner: str) -> Facet:
    """Return ``ownership`` of a model by its inventory's owner."""
    return {"owners": [{"name": f"user:{owner}", "type": "MODEL_OWNER"}]}


def tags(values: Mapping[str, str]) -> Facet:
    """Return ``tags``; their source is this package."""
    return {
        "tags": [
            {"key": key, "value": _short(value), "source": "MLGOV"} for key, value in values.items()
        ]
    }


def schema(fields: Sequence[tuple[str, str]]) -> Facet:
    """Return ``schema`` for columns given as (name, type)."""
    return {"fields": [{"name": name, "type": kind} for name, kind in fields[:MAX_ITEMS]]}


def column_lineage(
    fields: Sequence[tuple[str, str]], inputs: Sequence[tuple[DatasetName, Sequence[str]]]
) -> Facet:
    """Return ``columnLineage`` of fields that inputs have columns for, by name; empty if none.

    It lists so many fields that they come from at most `MAX_ITEMS` columns.

    Args:
        fields: Of the output, as (name, type).
        inputs: Each with the names of its columns.
    """
    found: dict[str, Any] = {}
    room = MAX_ITEMS
    for name, _ in fields:
        read = [
            {
                "namespace": dataset.namespace,
                "name": dataset.name,
                "field": name,
                "transformations": [{"type": "DIRECT", "subtype": "IDENTITY", "masking": False}],
            }
            for dataset, columns in inputs
            if name in columns
        ]
        room -= len(read)
        if read and room >= 0:
            found[name] = {"inputFields": read}
    return {"fields": found} if found else {}


def statistics(*, rows: int | None, size_bytes: int | None) -> Facet:
    """Return ``inputStatistics`` or ``outputStatistics``; empty if neither is known."""
    return {
        key: value for key, value in (("rowCount", rows), ("size", size_bytes)) if value is not None
    }


def assertions(checks: Sequence[Check]) -> Facet:
    """Return ``dataQualityAssertions``, the one facet that Marquez's pages colour."""
    return {
        "assertions": [
            known(
                {
                    "assertion": check.name,
                    "success": check.passed,
                    "column": check.column,
                    **_details(check),
                }
            )
            for check in _failures_first(checks)
        ]
    }


def tests(checks: Sequence[Check]) -> Facet:
    """Return ``test``: what was checked in this run, and how it came out."""
    return {
        "tests": [
            known(
                {
                    "name": f"{check.name}({check.column})" if check.column else check.name,
                    "status": "pass" if check.passed else "fail",
                    "type": check.name,
                    "description": _short(check.title),
                    **_details(check),
                }
            )
            for check in _failures_first(checks)
        ]
    }


def execution_parameters(values: Mapping[str, Any]) -> Facet:
    """Return ``executionParameters``: each value as text, JSON unless it is a string."""
    listed = list(values.items())[:MAX_ITEMS]
    return {
        "parameters": [
            {"key": key, "name": key, "value": _short(_text(value))} for key, value in listed
        ]
    }


def external_query(native_id: str, kind: str) -> Facet:
    """Return ``externalQuery``: what a run did elsewhere, by the vendor's id and whose it is."""
    return {"externalQueryId": native_id, "source": kind}


def source_code_location(path: str, digest: Digest | None) -> Facet:
    """Return ``sourceCodeLocation`` of a script that is known by its digest."""
    location = {"type": "file", "url": Path(path).absolute().as_uri(), "path": path}
    return location | ({"version": str(digest)} if digest else {})


def job_type(kind: str) -> Facet:
    """Return a complete ``jobType`` for a job of our own; Marquez refuses half of one."""
    return {"processingType": "BATCH", "integration": "MLGOV", "jobType": kind}


def _details(check: Check) -> dict[str, str]:
    severity = "error" if check.blocking else "warn"
    return {
        "severity": severity,
        "expected": _short(check.expected),
        "actual": _short(check.actual),
    }


def _failures_first(checks: Sequence[Check]) -> list[Check]:
    return sorted(checks, key=lambda check: (check.passed, not check.blocking))[:MAX_ITEMS]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _short(text: str, limit: int = MAX_TEXT) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
