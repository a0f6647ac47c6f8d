"""Asking for approval: freeze what is to be approved, or refuse to ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerConflictError,
    RequestRefusedError,
)
from airflow_mlgov.ledger.entry import Entry
from airflow_mlgov.policy.inventory import InventoryEntry
from airflow_mlgov.policy.pack import PolicyPack
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import ApprovalRequest
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.break_glass import BreakGlass, glass_in_force
from airflow_mlgov.service.findings import FINDING_REMEDY, high_findings
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, LedgerView, Receipt, SealedEntry
from airflow_mlgov.service.outbox import OutboxItem


@dataclass(frozen=True, slots=True)
class Question:
    """What a gate wants to ask.

    Attributes:
        model: Inventory id.
        target: Environment.
        version: Manifest digest; None for the candidate that the same run registered.
        source: The gate.
        requester: Who triggered the run, if a person did.
    """

    model: str
    target: str
    version: Digest | None
    source: Source
    requester: Person | None


Lineage: TypeAlias = Callable[[ApprovalRequest, PolicyPack, Entry], Sequence[OutboxItem]]


def request_approval(
    gov: Governance, question: Question, lineage: Lineage | None = None
) -> ApprovalRequest:
    """Put a request on record and return it once a signed checkpoint covers it.

    The same question about the same things is the same request, so a cleared or retried gate
    resumes it.

    Args:
        gov: Governance to ask under.
        question: What is asked.
        lineage: Tells what goes into the outbox in one transaction with the request's entry.

    Raises:
        RequestRefusedError: Evidence is missing, stale or failed, or a High finding is open; a
            retry does not help.
        ConfigurationError: The model, pack or target is not known; a retry does not help.
        LedgerUnavailableError: The ledger cannot be written; a retry may help.
    """
    entry = gov.model(question.model)
    check_target(entry, question.target, "gate")
    pack = gov.pack_for(entry)
    view = gov.ledger.view()
    version = question.version or candidate_of_run(view, entry.id, question.source)
    evidence = _required_evidence(gov, view, entry, pack, version)
    _refuse_open_high_findings(gov, view, entry.id, version)
    put_pack_on_record(gov, view, pack)
    source = question.source
    request = ApprovalRequest(
        model=entry.id,
        version=version,
        target=question.target,
        policy=pack.digest,
        evidence=evidence,
        dag_id=source.dag_id,
        run_id=source.run_id,
        task_id=source.task_id,
        map_index=source.map_index,
    )
    keep = (lambda entry: lineage(request, pack, entry)) if lineage else None
    gov.ledger.seal(_record_request(gov, question, request, keep))
    return request


def emergency_of(gov: Governance, question: Question) -> BreakGlass | None:
    """Return the emergency in which a gate lets its run through without asking, or None.

    One that another run has used lets nobody else through.

    Raises:
        RequestRefusedError: Glass was broken, and nobody can tell whether for what this gate is
            about; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read; a retry may help.
    """
    view, asked = gov.ledger.view(), question
    glass = glass_in_force(
        view, model=asked.model, target=asked.target, version=asked.version, now=gov.clock.now()
    )
    if not glass:
        return None
    version = asked.version or candidate_of_run(view, asked.model, asked.source)
    run = asked.source.dag_id, asked.source.run_id
    for each in glass:
        used_by = each.used_by and (each.used_by.source.dag_id, each.used_by.source.run_id)
        if each.entry.version == version and used_by in {None, run}:
            return each
    return None


def candidate_of_run(view: LedgerView, model: str, source: Source) -> Digest:
    """Return the version that a run registered as its candidate.

    Raises:
        RequestRefusedError: The run registered none; a retry does not help.
    """
    registered = [
        entry
        for entry in view.select("model.registered", model=model)
        if (entry.source.dag_id, entry.source.run_id) == (source.dag_id, source.run_id)
        and entry.body["variant"] == "candidate"
    ]
    if not registered or registered[-1].version is None:
        raise RequestRefusedError(
            f"Run {source.run_id!r} of DAG {source.dag_id!r} registered no candidate of model "
            f"{model!r}.",
            remedy="Train the model in the same run (TrainModelOperator) or name the version.",
        )
    return registered[-1].version


def check_target(entry: InventoryEntry, target: str, asker: str) -> None:
    """Refuse an environment that a model may not be promoted to.

    Args:
        entry: The model.
        target: The environment.
        asker: What names it in the DAG, for the error.

    Raises:
        ConfigurationError: The inventory does not list it; a retry does not help.
    """
    if target not in entry.targets:
        raise ConfigurationError(
            f"{entry.file}: model {entry.id!r} may not be promoted to {target!r}; its targets are: "
            f"{', '.join(entry.targets)}.",
            remedy=f"Correct 'target' of the {asker} or the inventory file.",
        )


def put_pack_on_record(gov: Governance, view: LedgerView, pack: PolicyPack) -> None:
    """Keep the pack's bytes as evidence, and note if it takes the place of another of its id.

    Whoever asks first under the new pack writes the entry; asking at the same time is one entry.
    """
    gov.evidence.put(pack.source)
    earlier = [e for e in view.select("policy.changed") if e.body.get("pack") == pack.id]
    body = {"policy_sha256": str(pack.digest), "pack": pack.id}
    if earlier:
        body["earlier_sha256"] = earlier[-1].body["policy_sha256"]
    if body.get("earlier_sha256") == str(pack.digest):
        return
    draft = EntryDraft(
        kind="policy.changed",
        model="",
        version=None,
        body=body,
        identity=(pack.id, str(len(earlier)), str(pack.digest)),
    )
    with suppress(LedgerConflictError):  # a task wrote something else there; it decides nothing
        gov.ledger.append(draft)


def _record_request(
    gov: Governance,
    question: Question,
    request: ApprovalRequest,
    lineage: Callable[[Entry], Sequence[OutboxItem]] | None,
) -> Receipt:
    return gov.ledger.append(
        EntryDraft(
            kind="approval.requested",
            model=request.model,
            version=request.version,
            body={
                "request": request.as_json(),
                "request_sha256": str(request.digest),
                "policy_sha256": str(request.policy),
                "target": request.target,
                "evidence": [[kind, str(digest)] for kind, digest in request.evidence],
            },
            identity=(str(request.digest),),
            people={"requester": question.requester} if question.requester else {},
            source=question.source,
        ),
        lineage=lineage,
    )


def _required_evidence(
    gov: Governance, view: LedgerView, entry: InventoryEntry, pack: PolicyPack, version: Digest
) -> tuple[tuple[str, Digest], ...]:
    latest = {
        kind: _latest(view.select(kind, model=entry.id, version=version))
        for kind in ("model.registered", "model.trained", "model.validated")
    }
    needed = ("model.registered", *(kind for kind in pack.required_evidence if kind in latest))
    missing = [kind for kind in needed if latest[kind] is None]
    if missing:
        raise RequestRefusedError(
            f"Version {version} of model {entry.id!r} lacks evidence that policy pack {pack.id!r} "
            "demands: "
            f"{', '.join(missing)}.",
            remedy="Run the steps that produce it before the gate.",
        )
    found = [
        (kind, Digest.parse(item.body["evidence_sha256"]))
        for kind, item in latest.items()
        if item is not None and "evidence_sha256" in item.body
    ]
    _refuse_other_plan(latest["model.validated"], entry, pack)
    if "data.validated" in pack.required_evidence and latest["model.trained"]:
        found += _data_evidence(view, latest["model.trained"])
    for _, digest in found:
        gov.evidence.get(digest)
    return tuple(sorted(set(found)))


def _latest(entries: list[SealedEntry]) -> SealedEntry | None:
    return entries[-1] if entries else None


def _refuse_other_plan(
    validated: SealedEntry | None, entry: InventoryEntry, pack: PolicyPack
) -> None:
    if validated and validated.body["policy_sha256"] != str(pack.digest):
        raise RequestRefusedError(
            f"Model {entry.id!r} was validated under policy {validated.body['policy_sha256']}, "
            "but the pack in "
            f"force is {pack.digest}.",
            remedy="Validate again: the plan is fixed before results exist, so a new pack needs a "
            "new validation.",
        )


def _data_evidence(view: LedgerView, trained: SealedEntry) -> list[tuple[str, Digest]]:
    passed = {
        item.body["sha256"]: item
        for item in view.select("data.validated", model=trained.model)
        if item.body["passed"]
    }
    inputs: list[dict[str, Any]] = trained.body["inputs"]
    unchecked = [item["name"] for item in inputs if item["sha256"] not in passed]
    if unchecked:
        raise RequestRefusedError(
            f"Model {trained.model!r} was trained on data that no passed validation covers: "
            f"{', '.join(unchecked)}.",
            remedy="Run ValidateDataOperator on the very files that go into training.",
        )
    return [
        ("data.validated", Digest.parse(passed[item["sha256"]].body["evidence_sha256"]))
        for item in inputs
    ]


def _refuse_open_high_findings(
    gov: Governance, view: LedgerView, model: str, version: Digest
) -> None:
    high = high_findings(view, model, version, gov.clock.now())
    if high:
        raise RequestRefusedError(
            f"Version {version} of model {model!r} has open High findings: {', '.join(high)}.",
            remedy=FINDING_REMEDY,
        )
