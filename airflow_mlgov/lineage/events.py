"""What each step of a governed model reads and writes.

Every function takes plain values and returns a `StepLineage`. The graph:

```
register.<source> -> raw data -> prepare -> data -> train -> model version -> validate model
                                             |                                       |
                                       validate data                                 |
                                             v                                       v
                                        data report -----> request <-------------- report
                                                              v
    promote <- approval <- decide <--------------------- request record
       v
    endpoint -> score -> scores
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from airflow_mlgov.lineage import datasets, facets
from airflow_mlgov.lineage.datasets import (
    ApprovalRef,
    DataRef,
    Dataset,
    Deployment,
    ModelFacts,
    ModelRef,
)
from airflow_mlgov.lineage.facets import Check, Facet, Facets
from airflow_mlgov.records.digest import Digest


@dataclass(frozen=True, slots=True)
class StepLineage:
    """What one run reads, writes and states about itself.

    Attributes:
        inputs: The same on START, COMPLETE and FAIL, but for what is known only afterwards.
        outputs: On the terminal event only, and only what was really written.
        run_facets: About the run.
        job_facets: About the job.
    """

    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()
    run_facets: Facets = field(default_factory=dict)
    job_facets: Facets = field(default_factory=dict)

    def at_start(self) -> StepLineage:
        """Return what can be said before the work is done."""
        known = tuple(dataset for dataset in self.inputs if dataset.is_known_at_start)
        return StepLineage(inputs=known, job_facets=self.job_facets)

    def stating(self, **run_facets: Facet) -> StepLineage:
        """Return the step with more facets about its run."""
        return replace(self, run_facets={**self.run_facets, **run_facets})

    def sources(self, *, known_at_start: bool) -> tuple[Dataset, ...]:
        """Return the inputs to register before the START event, or else before the end's."""
        return tuple(
            dataset
            for dataset in self.inputs
            if dataset.source_facets is not None and dataset.is_known_at_start == known_at_start
        )


@dataclass(frozen=True, slots=True)
class Training:
    """How a model version is trained.

    Attributes:
        script: Path of the training script.
        code: Digest of it.
        parameters: What it was given.
        seed: For its random generators.
        platform: Where it ran (``local``).
    """

    script: str
    code: Digest
    parameters: Mapping[str, Any]
    seed: int
    platform: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a cloud that a task's work ran as.

    Attributes:
        kind: Whose it is (``sagemaker``).
        key: Name that it was submitted under.
        native_id: What the vendor calls it.
        console_url: Where people look at it.
    """

    kind: str
    key: str
    native_id: str
    console_url: str

    @property
    def facets(self) -> Facets:
        """What the run of the task that waits for it states."""
        return {"externalQuery": facets.external_query(self.native_id, self.kind)}


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training.

    Attributes:
        model: The version that was registered.
        facts: What is known of it.
        inputs: Digest of each input by the name that the script knows it by.
        evidence: Digest of the training record.
        entry_key: Of the ledger entry ``model.trained``.
        job: What it ran as elsewhere; None if it ran in the task itself.
    """

    model: ModelRef
    facts: ModelFacts
    inputs: Mapping[str, Digest]
    evidence: Digest
    entry_key: str
    job: Job | None = None


def register_source(source: Dataset) -> StepLineage:
    """Return the step that makes a source known before its first reader.

    Args:
        source: The input that somebody is about to read.
    """
    stated = Dataset(source.name, facets=source.source_facets or source.facets)
    return StepLineage(outputs=(stated,), job_facets={"jobType": facets.job_type("SOURCE")})


def prepare(inputs: Sequence[DataRef], outputs: Sequence[DataRef] = ()) -> StepLineage:
    """Return a step that makes data out of data.

    Args:
        inputs: What it reads.
        outputs: What it wrote; empty before there is anything.
    """
    written = tuple(datasets.write_data(data) for data in outputs)
    return StepLineage(inputs=_read_all(inputs), outputs=written)


def validate_data(
    data: DataRef, *, dataset: str, evidence: Digest | None = None, checks: Sequence[Check] = ()
) -> StepLineage:
    """Return the step that checks data against its expectations.

    Args:
        data: What is checked.
        dataset: Name of the data set.
        evidence: Digest of the result; None before there is one.
        checks: How each expectation came out.
    """
    if evidence is None:
        return StepLineage(inputs=(datasets.read_data(data),))
    return StepLineage(
        inputs=(datasets.read_data(data, checks),),
        outputs=(datasets.data_report_record(dataset, evidence),),
        run_facets={"test": facets.tests(checks)},
    )


def train(
    inputs: Sequence[DataRef], training: Training, trained: Trained | None = None
) -> StepLineage:
    """Return the step that trains a model version.

    Args:
        inputs: Data that the script was given.
        training: How.
        trained: What came of it; None before there is anything.
    """
    given = {**training.parameters, "seed": training.seed, "platform": training.platform}
    step = StepLineage(
        inputs=_read_all(inputs),
        run_facets={"executionParameters": facets.execution_parameters(given)},
        job_facets={
            "sourceCodeLocation": facets.source_code_location(training.script, training.code)
        },
    )
    if trained is None:
        return step
    model = datasets.write_model(trained.model, trained.facts, inputs)
    return replace(step, outputs=(model,)).stating(mlgov_training=_training(training, trained))


def _training(training: Training, trained: Trained) -> Facet:
    return {
        "model": trained.model.model,
        "variant": trained.facts.variant,
        "platform": training.platform,
        "code_sha256": str(training.code),
        "seed": training.seed,
        "parameters_sha256": str(facets.digest_of(dict(training.parameters))),
        "inputs": [
            {"name": name, "sha256": str(digest)}
            for name, digest in list(trained.inputs.items())[: facets.MAX_ITEMS]
        ],
        "evidence_sha256": str(trained.evidence),
        "entry_key": trained.entry_key,
        **({"job": asdict(trained.job)} if trained.job else {}),
    }


def validate_model(
    models: Sequence[ModelRef],
    samples: Sequence[DataRef],
    *,
    evidence: Digest | None = None,
    checks: Sequence[Check] = (),
) -> StepLineage:
    """Return the step that validates a model version.

    Args:
        models: The version, then its challenger if there is one.
        samples: Development and validation sample.
        evidence: Digest of the report; None before there is one.
        checks: How each test came out.
    """
    first, *others = models
    inputs = (
        datasets.read_model(first, checks),
        *(datasets.read_model(other) for other in others),
        *_read_all(samples),
    )
    if evidence is None:
        return StepLineage(inputs=inputs)
    return StepLineage(
        inputs=inputs,
        outputs=(datasets.validation_report_record(first, evidence),),
        run_facets={"test": facets.tests(checks)},
    )


def request(asked: ApprovalRef, evidence: Sequence[Dataset]) -> StepLineage:
    """Return the step that puts a version before its approvers.

    Args:
        asked: The request.
        evidence: Records that it rests on (`datasets.data_report_record`,
            `datasets.validation_report_record`).
    """
    return StepLineage(
        inputs=(
            datasets.read_model(asked.version),
            *(datasets.as_read(record) for record in evidence),
        ),
        outputs=(datasets.request_dataset(asked),),
        job_facets={"jobType": facets.job_type("REQUEST")},
    )


def decide(asked: ApprovalRef, *, is_granted: bool | None) -> StepLineage:
    """Return the step in which people decide; their names stay in the erasable ledger.

    Args:
        asked: The request.
        is_granted: What was decided; None while it waits.
    """
    records = {
        True: (datasets.approval_dataset(asked),),
        False: (datasets.denial_dataset(asked),),
        None: (),
    }
    return StepLineage(
        inputs=(datasets.as_read(datasets.request_dataset(asked)),),
        outputs=records[is_granted],
        job_facets={"jobType": facets.job_type("DECISION")},
    )


def promote(asked: ApprovalRef, made: Deployment | None = None) -> StepLineage:
    """Return the step that puts an approved version into use.

    Args:
        asked: The approval that it rests on.
        made: The promotion; None before the alias was moved.
    """
    return StepLineage(
        inputs=(
            datasets.read_model(asked.version),
            datasets.as_read(datasets.approval_dataset(asked)),
        ),
        outputs=(datasets.endpoint_dataset(asked, made),) if made else (),
    )


def score(
    asked: ApprovalRef, features: Sequence[DataRef], scores: Sequence[DataRef] = ()
) -> StepLineage:
    """Return a step that uses a promoted version.

    Args:
        asked: The approval under which it is in use.
        features: What is scored.
        scores: What came out; empty before there is anything.
    """
    return StepLineage(
        inputs=(
            datasets.read_model(asked.version),
            datasets.as_read(datasets.approval_dataset(asked)),
            datasets.as_read(datasets.endpoint_dataset(asked)),
            *_read_all(features),
        ),
        outputs=tuple(datasets.write_data(data) for data in scores),
    )


def _read_all(data: Sequence[DataRef]) -> tuple[Dataset, ...]:
    """Inputs without doubles: one file under two names is one dataset."""
    read = {item.dataset: datasets.read_data(item) for item in data}
    return tuple(read.values())
