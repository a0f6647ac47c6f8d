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
from dataclasses import dataclass, field
from typing import Any

from airflow_mlgov.lineage import datasets, facets
from airflow_mlgov.lineage.datasets import ApprovalRef, DataRef, Dataset, ModelRef
from airflow_mlgov.lineage.facets import Check, Facets
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

    def sources(self, *, known_at_start: bool) -> tuple[Dataset, ...]:
        """Return the inputs to register before the START event, or else before the end's."""
        return tuple(
            dataset
            for dataset in self.inputs
            if dataset.source_facets is not None and dataset.is_known_at_start == known_at_start
        )


@dataclass(frozen=True, slots=True)
class Training:
    """How a model version was trained.

    Attributes:
        script: Path of the training script.
        code: Digest of it; None if it is not known.
        parameters: What it was given.
        seed: For its random generators.
        platform: Where it ran (``local``).
        variant: ``candidate`` or ``challenger``.
    """

    script: str
    code: Digest | None
    parameters: Mapping[str, Any]
    seed: int
    platform: str
    variant: str


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
    inputs: Sequence[DataRef], training: Training, model: ModelRef | None = None
) -> StepLineage:
    """Return the step that trains a model version.

    Args:
        inputs: Data that the script was given.
        training: How.
        model: The version that was registered; None before there is one.
    """
    stated = {**training.parameters, "seed": training.seed}
    outputs = (datasets.write_model(model, variant=training.variant),) if model else ()
    return StepLineage(
        inputs=_read_all(inputs),
        outputs=outputs,
        run_facets={
            "executionParameters": facets.execution_parameters(
                stated | {"platform": training.platform}
            )
        },
        job_facets={
            "sourceCodeLocation": facets.source_code_location(training.script, training.code)
        },
    )


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


def decide(
    asked: ApprovalRef, *, is_granted: bool | None, facts: Mapping[str, str] | None = None
) -> StepLineage:
    """Return the step in which people decide; their names stay in the erasable ledger.

    Args:
        asked: The request.
        is_granted: What was decided; None while it waits.
        facts: What to show of the decision (``decided_at``, ``expires_at``, ``least_assurance``),
            times as text.
    """
    records = {
        True: (datasets.approval_dataset(asked),),
        False: (datasets.denial_dataset(asked),),
        None: (),
    }
    decision = {True: "granted", False: "denied", None: "open"}[is_granted]
    stated = {
        "decision": decision,
        "target": asked.target,
        "request": str(asked.request),
        **(facts or {}),
    }
    return StepLineage(
        inputs=(datasets.as_read(datasets.request_dataset(asked)),),
        outputs=records[is_granted],
        run_facets={"executionParameters": facets.execution_parameters(stated)},
        job_facets={"jobType": facets.job_type("DECISION")},
    )


def promote(asked: ApprovalRef, *, is_done: bool) -> StepLineage:
    """Return the step that puts an approved version into use.

    Args:
        asked: The approval that it rests on.
        is_done: Whether the alias was moved.
    """
    return StepLineage(
        inputs=(
            datasets.read_model(asked.version),
            datasets.as_read(datasets.approval_dataset(asked)),
        ),
        outputs=(datasets.endpoint_dataset(asked),) if is_done else (),
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
