"""Datasets with their facets, as plain values.

Facets of a dataset stand on the event of the run that writes it, and nowhere else: a backend keeps
the last it saw. ``documentation`` is the exception (it goes blank after any event without it), so
readers repeat it word for word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_mlgov.lineage import facets
from airflow_mlgov.lineage.facets import Check, Facet, Facets
from airflow_mlgov.lineage.names import (
    DatasetName,
    approval_record,
    break_glass_record,
    data_report,
    denial_record,
    endpoint_revision,
    model_version,
    request_record,
    snapshot,
    validation_report,
)
from airflow_mlgov.records.digest import Digest


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset in an event.

    Attributes:
        name: Which dataset.
        facets: About the dataset itself.
        input_facets: About this reading of it.
        output_facets: About this writing of it.
        source_facets: What its registration states, if nothing of ours writes it; None if something
            does.
        is_known_at_start: Whether it could be named before the task ran.
    """

    name: DatasetName
    facets: Facets = field(default_factory=dict)
    input_facets: Facets = field(default_factory=dict)
    output_facets: Facets = field(default_factory=dict)
    source_facets: Facets | None = None
    is_known_at_start: bool = True


@dataclass(frozen=True, slots=True)
class DataRef:
    """Data as it was at one moment.

    Attributes:
        uri: Where it stands: a path, or a URI without credentials.
        digest: SHA-256 of its content; None for a table that was not fetched.
        rows: Rows, if counted.
        size_bytes: Length of the file, if it is one.
        fields: Columns as (name, type), if known.
        is_known_at_start: False if it is named by a digest that only the task's own work gives.
        has_writer: Whether another task of ours states that it writes it; else it is a source.
    """

    uri: str
    digest: Digest | None = None
    rows: int | None = None
    size_bytes: int | None = None
    fields: tuple[tuple[str, str], ...] = ()
    is_known_at_start: bool = True
    has_writer: bool = False

    @property
    def dataset(self) -> DatasetName:
        """What it is called.

        Raises:
            ConfigurationError: Its place cannot be named; a retry does not help.
        """
        return snapshot(self.uri, self.digest)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model version, as its registry and the inventory know it.

    Attributes:
        model: Inventory id.
        namespace: The registry's namespace (``mlflow://host:port``).
        registered_name: Its name in the registry.
        version: The registry's own number.
        manifest: What it is: the digest of its files.
        summary: What it is for, from the inventory.
        owner: Who answers for it, from the inventory.
    """

    model: str
    namespace: str
    registered_name: str
    version: str
    manifest: Digest
    summary: str = ""
    owner: str = ""

    @property
    def dataset(self) -> DatasetName:
        """What it is called.

        Raises:
            ConfigurationError: The registry's name for it cannot be stored by a backend; a retry
                does not help.
        """
        return model_version(self.namespace, self.registered_name, self.version)

    @property
    def documentation(self) -> str:
        """The same words wherever the version is written or read."""
        return f"{self.model} version {self.version}, {self.manifest}. {self.summary}".rstrip()


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a version when it was trained.

    Attributes:
        registry: Kind of registry (``mlflow``).
        variant: ``candidate`` or ``challenger``.
        model_class: Which validation plan applies.
        tier: How closely the model is governed; 1 is the strictest.
        files: Number of its files.
        size_bytes: Length of these together.
        fields: What it takes, as (name, type), from its signature.
        registry_uri: Its address there, without credentials.
    """

    registry: str
    variant: str
    model_class: str = ""
    tier: int | None = None
    files: int | None = None
    size_bytes: int | None = None
    fields: tuple[tuple[str, str], ...] = ()
    registry_uri: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRef:
    """A request for approval, and what came of it.

    Attributes:
        version: What it is about.
        target: Environment it is for.
        request: Digest of the request; of an emergency, the key of its ledger entry.
        is_emergency: Whether somebody broke glass, and there is no approval.
    """

    version: ModelRef
    target: str
    request: Digest
    is_emergency: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """A promotion that was made.

    Attributes:
        registry: Kind of registry (``mlflow``).
        alias: That was moved.
        promoted_at: When, as text.
        replaces: Version that the alias was promoted to before; None if there was none.
    """

    registry: str
    alias: str
    promoted_at: str
    replaces: Digest | None = None


def read_data(data: DataRef, checks: Sequence[Check] = ()) -> Dataset:
    """Return data as an input.

    Args:
        data: What is read.
        checks: What was checked on it in this run.
    """
    found = facets.statistics(rows=data.rows, size_bytes=data.size_bytes)
    about = {"inputStatistics": found} if found else {}
    if checks:
        about["dataQualityAssertions"] = facets.assertions(checks)
    stated = _stated(data)
    return Dataset(
        data.dataset,
        facets={"documentation": stated["documentation"]},
        input_facets=about,
        source_facets=None if data.has_writer else stated,
        is_known_at_start=data.is_known_at_start,
    )


def write_data(data: DataRef) -> Dataset:
    """Return data as an output: named by its digest, with its columns and size."""
    found = facets.statistics(rows=data.rows, size_bytes=data.size_bytes)
    about = {"outputStatistics": found} if found else {}
    return Dataset(data.dataset, facets=_stated(data), output_facets=about)


def write_model(model: ModelRef, facts: ModelFacts, learnt_from: Sequence[DataRef] = ()) -> Dataset:
    """Return a model version as the output of its training; nothing else may have it as an output.

    Args:
        model: Which version.
        facts: What is known of it.
        learnt_from: Data that its training read; columns that are known and have the name of a
            field are told to be where that comes from.
    """
    about = {
        "datasetType": facets.dataset_type("MODEL", "MODEL_VERSION"),
        "version": facets.version(model.manifest),
        "documentation": facets.documentation(model.documentation),
        "tags": facets.tags({"model": model.model, "variant": facts.variant}),
        "mlgov_model": facets.known(
            {
                "model": model.model,
                "version": str(model.manifest),
                "variant": facts.variant,
                "model_class": facts.model_class,
                "tier": facts.tier,
                "files": facts.files,
                "size_bytes": facts.size_bytes,
                **_in_registry(model, facts.registry),
                "registry_uri": facts.registry_uri,
            }
        ),
    }
    if model.owner:
        about["ownership"] = facets.ownership(model.owner)
    if facts.fields:
        about["schema"] = facets.schema(facts.fields)
    columns = [(data.dataset, [name for name, _ in data.fields]) for data in learnt_from]
    if lineage := facets.column_lineage(facts.fields, columns):
        about["columnLineage"] = lineage
    return Dataset(model.dataset, facets=about)


def read_model(model: ModelRef, checks: Sequence[Check] = ()) -> Dataset:
    """Return a model version as an input, with what was checked on it in this run."""
    about = {"dataQualityAssertions": facets.assertions(checks)} if checks else {}
    return Dataset(
        model.dataset,
        facets={"documentation": facets.documentation(model.documentation)},
        input_facets=about,
    )


def data_report_record(dataset: str, evidence: Digest) -> Dataset:
    """Return the result of validating data, as its writer states it; see `as_read`."""
    words = f"Result of validating the data set {dataset}; evidence {evidence}."
    return _record(data_report(dataset, evidence), "DATA_VALIDATION", evidence, words)


def validation_report_record(model: ModelRef, evidence: Digest) -> Dataset:
    """Return a validation report, as its writer states it."""
    words = f"Validation report of {model.model} version {model.version}; evidence {evidence}."
    return _record(
        validation_report(model.model, model.version, evidence),
        "VALIDATION_REPORT",
        evidence,
        words,
    )


def request_dataset(asked: ApprovalRef) -> Dataset:
    """Return the record of a request, as its writer states it."""
    name = request_record(asked.version.model, asked.version.version, asked.request)
    return _record(name, "APPROVAL_REQUEST", asked.request, f"Request to approve {_what(asked)}.")


def approval_dataset(asked: ApprovalRef) -> Dataset:
    """Return the record of an approval, or of the emergency in its place."""
    if asked.is_emergency:
        name = break_glass_record(asked.version.model, asked.version.version, asked.request)
        return _record(name, "BREAK_GLASS", asked.request, f"Glass broken for {_what(asked)}.")
    name = approval_record(asked.version.model, asked.version.version, asked.request)
    return _record(name, "APPROVAL", asked.request, f"Approval of {_what(asked)}.")


def denial_dataset(asked: ApprovalRef) -> Dataset:
    """Return the record of a rejection, as its writer states it."""
    name = denial_record(asked.version.model, asked.version.version, asked.request)
    return _record(name, "DENIAL", asked.request, f"Rejection of {_what(asked)}.")


def endpoint_dataset(asked: ApprovalRef, made: Deployment | None = None) -> Dataset:
    """Return what a promotion puts into use.

    Args:
        asked: What the promotion rests on.
        made: The promotion, as its writer knows it; None for a reader.
    """
    version = asked.version
    name = endpoint_revision(version.model, version.version, asked.target, asked.request)
    words = (
        f"Use in {asked.target} of {version.model} version {version.version}, {version.manifest}."
    )
    about = {
        "datasetType": facets.dataset_type("MODEL", "ENDPOINT"),
        "version": facets.version(version.manifest),
        "documentation": facets.documentation(words),
    }
    if made is not None:
        about["mlgov_deployment"] = _deployment(asked, made)
    return Dataset(name, facets=about)


def as_read(record: Dataset) -> Dataset:
    """Return a record of ours as an input: its description only."""
    return Dataset(record.name, facets={"documentation": record.facets["documentation"]})


def _deployment(asked: ApprovalRef, made: Deployment) -> Facet:
    return facets.known(
        {
            "model": asked.version.model,
            "version": str(asked.version.manifest),
            **_in_registry(asked.version, made.registry),
            "target": asked.target,
            "alias": made.alias,
            "request_sha256": str(asked.request),
            "breakglass": str(asked.request) if asked.is_emergency else None,
            "promoted_at": made.promoted_at,
            "replaces": str(made.replaces) if made.replaces else None,
        }
    )


def _in_registry(model: ModelRef, registry: str) -> dict[str, str]:
    return {
        "registry": registry,
        "registered_name": model.registered_name,
        "registry_version": model.version,
    }


def _record(name: DatasetName, kind: str, digest: Digest, words: str) -> Dataset:
    return Dataset(
        name,
        facets={
            "datasetType": facets.dataset_type("FILE", kind),
            "version": facets.version(digest),
            "documentation": facets.documentation(words),
        },
    )


def _stated(data: DataRef) -> dict[str, Facet]:
    place = snapshot(data.uri, None).name
    words = f"{place}, content {data.digest}." if data.digest else f"{place}."
    about = {
        "datasetType": facets.dataset_type("FILE" if data.dataset.namespace == "file" else "TABLE"),
        "documentation": facets.documentation(words),
    }
    if data.digest:
        about["version"] = facets.version(data.digest)
    if data.fields:
        about["schema"] = facets.schema(data.fields)
    return about


def _what(asked: ApprovalRef) -> str:
    version = asked.version
    which = f"{version.model} version {version.version}"
    return f"{which} for {asked.target}, {version.manifest}; {asked.request}"
