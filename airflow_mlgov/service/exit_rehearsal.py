"""Rehearsing an exit: the same specification trained on another platform, held against the first.

`airflow_mlgov.service.exit_plan` says what to train, `train_here` or `train_as_job` makes it again,
and `conclude_rehearsal` compares the scores and puts the outcome on record. What was made is then
dropped: it is registered nowhere, so it can be neither approved nor promoted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.contract import read_outputs
from airflow_mlgov.service.exit_plan import RehearsalPlan, refuse_other_code
from airflow_mlgov.service.job_watch import JobWatch
from airflow_mlgov.service.ledger import EntryDraft, SealedReceipt
from airflow_mlgov.service.provenance import refuse_changed
from airflow_mlgov.service.request_approval import put_pack_on_record
from airflow_mlgov.service.trained import Trained
from airflow_mlgov.service.training_order import read_order
from airflow_mlgov.service.training_platform import Platform, ScriptJob
from airflow_mlgov.validation.equivalence import Equivalence, compare_scores

if TYPE_CHECKING:
    from airflow_mlgov.policy.pack import ExitRules
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.jobs import JobTraining

DOCUMENT_TYPE = "exit_rehearsal"


@dataclass(frozen=True, slots=True)
class ScoredSample:
    """What both versions say of the same rows.

    Attributes:
        uri: Of the sample.
        sha256: Digest of its bytes.
        scorer: What scored it, for people.
        first: Probabilities of the first version, one a row.
        second: Those of the version that was trained again.
    """

    uri: str
    sha256: Digest
    scorer: str
    first: Any
    second: Any


@dataclass(frozen=True, slots=True)
class HeldAgainst:
    """One tolerance, and what was found.

    Attributes:
        measure: Key in the pack's section ``exit``.
        title: For people.
        found: The figure; None if it is not defined.
        bound: The tolerance.
        passed: Whether it is kept.
    """

    measure: str
    title: str
    found: float | None
    bound: float
    passed: bool


@dataclass(frozen=True)
class Rehearsed:
    """How a rehearsal came out.

    Attributes:
        document: The report, as it is kept.
        evidence: Its digest.
        results: Each tolerance.
        passed: Whether all are kept.
        receipt: Of ``exit.rehearsed``, under a signed checkpoint.
    """

    document: Mapping[str, Any]
    evidence: Digest
    results: tuple[HeldAgainst, ...]
    passed: bool
    receipt: SealedReceipt


def train_here(
    plan: RehearsalPlan,
    platform: Platform,
    environment: Mapping[str, Any],
    folder: Path,
    log: Callable[[str], None],
) -> Trained:
    """Train the plan's order on a local platform, into an empty folder.

    Args:
        plan: What to train.
        platform: Where.
        environment: Interpreter and packages there.
        folder: Stays as long as what is returned is used.
        log: Told each line of the script's output.

    Raises:
        TrainingError: The script failed or broke its contract; a retry does not help.
        DataError: An input changed meanwhile; a retry does not help.
        ArtefactError: The model directory holds what may not be there; a retry does not help.
    """
    order, inputs = plan.order, read_order(plan.order)
    paths = {item.name: str(item.path) for item in inputs}
    job = ScriptJob(order.script, paths, order.parameters, order.seed, folder, None, None, {})
    platform.run(job, log)
    for item in inputs:
        refuse_changed(item)
    refuse_other_code(plan.order.script, plan.record)
    outputs = read_outputs(folder)
    manifest = hash_directory(outputs.model_dir, log)
    said = {"platform": platform.name, "environment": dict(environment)}
    return Trained.of(order, inputs, outputs, manifest, **said)


def train_as_job(
    training: JobTraining, folder: Path, started: Callable[[Callable[[], None]], None]
) -> Trained:
    """Train as a job of a cloud, and fetch what it made into an empty folder.

    The policy pack's controls hold as for every job. Who is killed and asks again from the same
    `Source` goes on with the same job.

    Args:
        training: The plan's order, on the platform.
        folder: Stays as long as what is returned is used.
        started: Given what cancels the job, once there is one.

    Raises:
        MlgovError: As `JobTraining.start`, `JobWatch.look` and `JobTraining.fetch`.
    """
    handle = training.start()
    started(lambda: training.jobs.cancel(handle))
    terms, cursor = training.terms, None
    watch = JobWatch(training.jobs, handle, terms.poll_s, terms.outage_s)
    while True:
        look = watch.look()
        if look.note:
            training.log(look.note)
        if look.status is not None:
            cursor = training.log_output(handle, cursor)
            if look.status.state.ended:
                return training.fetch(handle, folder)
        training.sleep(look.wait_s)


def conclude_rehearsal(
    gov: Governance,
    plan: RehearsalPlan,
    made: Trained,
    sample: ScoredSample,
    started_at: datetime,
) -> Rehearsed:
    """Compare the scores, keep the report as evidence, and put the outcome on record.

    Scores that are too far apart are an outcome, not an error.

    Args:
        gov: Ledger, evidence and rules.
        plan: What was trained again.
        made: What came of it.
        sample: What both versions say.
        started_at: When the rehearsal began.

    Raises:
        DataError: There is nothing to compare; a retry does not help.
        LedgerUnavailableError: The ledger cannot be written; a retry may help.

    Source:
        Regulation (EU) 2022/2554 (DORA) Article 28(8): exit plans that are sufficiently tested.
    """
    found = compare_scores(sample.first, sample.second)
    results = hold_against(found, plan.rules)
    document = _report(plan, made, sample, found, results)
    finished_at = gov.clock.now()
    document["started_at"] = to_text(started_at)
    document["finished_at"] = to_text(finished_at)
    document["duration_s"] = round((finished_at - started_at).total_seconds(), 3)
    data = json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    evidence = gov.evidence.put(data.encode("utf-8"))
    put_pack_on_record(gov, gov.ledger.view(), plan.pack)
    body = {
        "evidence_sha256": str(evidence),
        "policy_sha256": str(plan.pack.digest),
        "rehearsed_sha256": str(made.manifest.digest),
        "platform": plan.question.from_platform,
        "to_platform": plan.question.to_platform,
        "passed": document["passed"],
    }
    draft = EntryDraft(
        kind="exit.rehearsed",
        model=plan.question.model,
        version=plan.version,
        body=body,
        identity=(plan.question.model, str(plan.version), str(evidence)),
        source=plan.question.source,
    )
    receipt = gov.ledger.seal(gov.ledger.append(draft))
    return Rehearsed(document, evidence, results, document["passed"], receipt)


def hold_against(found: Equivalence, rules: ExitRules) -> tuple[HeldAgainst, ...]:
    """Return each tolerance of a pack with what was found; what is not defined is not kept."""
    ranks = found.rank_agreement
    most = (
        ("max_difference", "Largest difference of two scores", found.max_difference),
        ("mean_difference", "Mean difference", found.mean_difference),
        ("max_psi", "Population stability index", found.psi),
    )
    least = HeldAgainst(
        "min_rank_agreement",
        "Agreement of ranks (Spearman)",
        ranks,
        rules.min_rank_agreement,
        ranks is not None and ranks >= rules.min_rank_agreement,
    )
    bounded = [
        HeldAgainst(name, title, value, getattr(rules, name), value <= getattr(rules, name))
        for name, title, value in most
    ]
    return (*bounded[:2], least, bounded[2])


def describe_result(result: HeldAgainst) -> str:
    """Return a tolerance and what was found as one line for a log."""
    found = "not defined" if result.found is None else f"{result.found:.6g}"
    side = "at least" if result.measure.startswith("min_") else "at most"
    outcome = "PASS" if result.passed else "FAIL"
    return f"{outcome} {result.title} {found} ({side} {result.bound:g})"


def _report(
    plan: RehearsalPlan,
    made: Trained,
    sample: ScoredSample,
    found: Equivalence,
    results: Sequence[HeldAgainst],
) -> dict[str, Any]:
    question = plan.question
    return {
        "type": DOCUMENT_TYPE,
        "v": 1,
        "model": question.model,
        "version": str(plan.version),
        "rehearsed_version": str(made.manifest.digest),
        "same_bytes": made.manifest.digest == plan.version,
        "platform": question.from_platform,
        "to_platform": question.to_platform,
        "training_record": str(plan.evidence),
        "training": made.record,
        "environment": _changes(plan.record, made.record),
        "sample": {"uri": sample.uri, "sha256": str(sample.sha256), "rows": found.rows},
        "scorer": sample.scorer,
        "apart": [asdict(row) for row in found.apart],
        "policy": plan.pack.id,
        "policy_sha256": str(plan.pack.digest),
        "results": [asdict(result) for result in results],
        "passed": all(result.passed for result in results),
        "source": question.source.as_json(),
    }


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what of interpreter, system and packages differs, by name; empty where it lacks."""
    before, after = (_environment(record) for record in (first, second))
    return [
        {"name": name, "from": before.get(name, ""), "to": after.get(name, "")}
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _environment(record: Mapping[str, Any]) -> dict[str, str]:
    environment = dict(record.get("environment", {}))
    packages = environment.pop("packages", [])
    split = (str(each).partition("==") for each in packages)
    said = {name: version for name, _, version in split}
    return said | {name: str(value) for name, value in environment.items()}
