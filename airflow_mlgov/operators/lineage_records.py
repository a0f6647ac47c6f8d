"""What lineage says about versions and approvals, looked up in the ledger and the inventory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_mlgov.errors import VersionNotFoundError
from airflow_mlgov.operators.lineage import quietly

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_mlgov.lineage.datasets import (
        ApprovalRef,
        DataRef,
        Dataset,
        Deployment,
        ModelRef,
    )
    from airflow_mlgov.lineage.events import Trained
    from airflow_mlgov.lineage.facets import Facet
    from airflow_mlgov.policy.inventory import InventoryEntry
    from airflow_mlgov.policy.tally import Tally
    from airflow_mlgov.records.digest import Digest
    from airflow_mlgov.records.governance import ApprovalRequest
    from airflow_mlgov.service.allow_use import AnyClearance
    from airflow_mlgov.service.approvals import Standing
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.ledger import LedgerView, SealedEntry, SealedReceipt
    from airflow_mlgov.service.ports import RegistryVersion
    from airflow_mlgov.service.trained import TrainedModel
    from airflow_mlgov.service.validate_model import Validated, Validation


def version_on_record(gov: Governance, view: LedgerView, model: str, manifest: Digest) -> ModelRef:
    """Return a version as its registration in the ledger states it.

    Raises:
        VersionNotFoundError: It was never registered; a retry does not help.
        ConfigurationError: The inventory does not know the model; a retry does not help.
    """
    registered = view.select("model.registered", model=model, version=manifest)
    if not registered:
        raise VersionNotFoundError(f"Version {manifest} of model {model!r} is not on record.")
    body = registered[-1].body
    return _version(gov.model(model), manifest, body["namespace"], body["name"], body["version"])


def version_of(entry: InventoryEntry, manifest: Digest, registered: RegistryVersion) -> ModelRef:
    """Return a version as the registry states it."""
    return _version(entry, manifest, registered.namespace, registered.name, registered.version)


def asked_for(gov: Governance, view: LedgerView, request: ApprovalRequest) -> ApprovalRef:
    """Return what a request is about.

    Raises:
        VersionNotFoundError: The version was never registered; a retry does not help.
    """
    from airflow_mlgov.lineage.datasets import ApprovalRef

    version = version_on_record(gov, view, request.model, request.version)
    return ApprovalRef(version, request.target, request.digest)


def cleared_by(clearance: AnyClearance, version: ModelRef) -> ApprovalRef:
    """Return what lets a version be used: an approval, or somebody's emergency."""
    from airflow_mlgov.lineage.datasets import ApprovalRef
    from airflow_mlgov.service.allow_use import EmergencyClearance, rests_on

    is_emergency = isinstance(clearance, EmergencyClearance)
    return ApprovalRef(version, clearance.use.target, rests_on(clearance), is_emergency)


def evidence_of(view: LedgerView, version: ModelRef, request: ApprovalRequest) -> list[Dataset]:
    """Return the records that a request rests on: data reports and the validation report."""
    from airflow_mlgov.lineage.datasets import data_report_record, validation_report_record

    names = {
        entry.body["evidence_sha256"]: entry.body["dataset"]
        for entry in view.select("data.validated", model=request.model)
    }
    records = []
    for kind, digest in request.evidence:
        if kind == "data.validated" and str(digest) in names:
            records.append(data_report_record(names[str(digest)], digest))
        elif kind == "model.validated":
            records.append(validation_report_record(version, digest))
    return records


def approval_in_use(
    gov: Governance, view: LedgerView, *, model: str, target: str, alias: str
) -> ApprovalRef | None:
    """Return the approval under which the last promotion to an alias was made, or None."""
    for entry in reversed(view.select("model.promoted", model=model)):
        if entry.version and (entry.body["target"], entry.body["alias"]) == (target, alias):
            return used_under(gov, view, entry)
    return None


def used_under(gov: Governance, view: LedgerView, entry: SealedEntry) -> ApprovalRef:
    """Return what a promotion or use rests on, as its own entry states it.

    Args:
        gov: Governance.
        view: Verified ledger.
        entry: ``model.promoted`` or ``model.scored``.

    Raises:
        VersionNotFoundError: The version was never registered; a retry does not help.
    """
    from airflow_mlgov.lineage.datasets import ApprovalRef
    from airflow_mlgov.records.digest import Digest

    if entry.version is None:
        raise VersionNotFoundError(f"Entry {entry.index} names no version.")
    version = version_on_record(gov, view, entry.model, entry.version)
    request = Digest.parse(entry.body["request_sha256"])
    return ApprovalRef(version, entry.body["target"], request, "breakglass" in entry.body)


def training_data(gov: Governance, trained: TrainedModel) -> list[DataRef]:
    """Return what a training read, with the columns of what was validated before."""
    from airflow_mlgov.lineage.datasets import DataRef

    def columns(digest: Digest) -> tuple[tuple[str, str], ...]:
        found = quietly(lambda: columns_on_record(gov, gov.ledger.view(), trained.model, digest))
        return found or ()

    return [
        DataRef(used.uri, used.sha256, size_bytes=used.size_bytes, fields=columns(used.sha256))
        for used in trained.inputs
    ]


def trained_version(gov: Governance, trained: TrainedModel) -> Trained:
    """Return what came of a training."""
    from airflow_mlgov.lineage.datasets import ModelFacts
    from airflow_mlgov.lineage.events import Job, Trained
    from airflow_mlgov.policy.tiers import tier

    entry, files, job = gov.model(trained.model), trained.manifest.files, trained.job
    facts = ModelFacts(
        registry=trained.registered.registry,
        variant=trained.variant,
        model_class=entry.model_class,
        tier=quietly(lambda: tier(entry, gov.pack_for(entry))),
        files=len(files),
        size_bytes=sum(file.size_bytes for file in files),
        fields=tuple((field["name"], field["type"]) for field in trained.signature["inputs"]),
        registry_uri=trained.registered.uri,
    )
    return Trained(
        model=version_of(entry, trained.manifest.digest, trained.registered),
        facts=facts,
        inputs={used.name: used.sha256 for used in trained.inputs},
        evidence=trained.evidence,
        entry_key=trained.entry_key,
        job=Job(**{name: job[name] for name in Job.__slots__}) if job else None,
    )


def columns_on_record(
    gov: Governance, view: LedgerView, model: str, digest: Digest
) -> tuple[tuple[str, str], ...]:
    """Return the columns of data that were validated for a model; empty if they were not.

    Args:
        gov: Governance to read evidence with.
        view: Verified ledger.
        model: Inventory id.
        digest: Of the data.

    Raises:
        EvidenceError: The evidence is missing or altered; a retry does not help.
    """
    from airflow_mlgov.records.digest import Digest

    for entry in reversed(view.select("data.validated", model=model)):
        if entry.body["sha256"] == str(digest):
            kept = json.loads(gov.evidence.get(Digest.parse(entry.body["evidence_sha256"])))
            return tuple(
                (column["name"], column["type"]) for column in kept["fingerprint"]["schema"]
            )
    return ()


def deployment_of(
    view: LedgerView, asked: ApprovalRef, *, registry: str, alias: str
) -> Deployment | None:
    """Return a promotion as the ledger has it, or None.

    Args:
        view: Verified ledger.
        asked: What the promotion rests on.
        registry: Kind of registry.
        alias: That was moved.
    """
    from airflow_mlgov.lineage.datasets import Deployment
    from airflow_mlgov.records.clock import to_text

    before: Digest | None = None
    for entry in view.select("model.promoted", model=asked.version.model):
        body = entry.body
        if (body["target"], body["registry"], body["alias"]) != (asked.target, registry, alias):
            continue
        if body["request_sha256"] == str(asked.request):
            return Deployment(registry, alias, to_text(entry.at), before)
        before = entry.version
    return None


def validation_facet(entry: InventoryEntry, asked: Validation, validated: Validated) -> Facet:
    """Return ``mlgov_validation``: how a validation came out, by digests and counts."""
    from airflow_mlgov.lineage.facets import MAX_ITEMS, digest_of, known

    return known(
        {
            "model": entry.id,
            "version": str(asked.version),
            "challenger": str(asked.challenger) if asked.challenger else None,
            "plan": entry.model_class,
            "plan_sha256": str(digest_of(validated.planned)),
            "policy_sha256": str(validated.policy),
            "development_sha256": str(asked.development.sha256),
            "validation_sha256": str(asked.validation.sha256),
            "evidence_sha256": str(validated.evidence),
            "passed": validated.passed,
            "results": validated.counts,
            "findings": [finding.id for finding in validated.findings][:MAX_ITEMS],
        }
    )


def request_facet(request: ApprovalRequest, count: Tally, asked_at: datetime) -> Facet:
    """Return ``mlgov_approval`` of a request that waits, without naming anybody.

    Args:
        request: What is asked.
        count: The votes so far.
        asked_at: When it was put on record.
    """
    from airflow_mlgov.lineage.facets import known
    from airflow_mlgov.records.clock import to_text

    filled = [vote.assurance for seat in count.seats for vote in seat.votes]
    return known(
        {
            "model": request.model,
            "version": str(request.version),
            "target": request.target,
            "request_sha256": str(request.digest),
            "policy_sha256": str(request.policy),
            "evidence": [
                {"kind": kind, "sha256": str(digest)} for kind, digest in request.evidence
            ],
            "decision": count.decision.value,
            "requested_at": to_text(asked_at),
            "seats": [
                {"role": of.seat.role, "needed": of.seat.count, "filled": len(of.votes)}
                for of in count.seats
            ],
            "least_assurance": min(filled, default=None),
        }
    )


def approval_facet(standing: Standing) -> Facet:
    """Return ``mlgov_approval``: a request and where it stands, without naming anybody."""
    from airflow_mlgov.lineage.facets import known
    from airflow_mlgov.policy.tally import Decision
    from airflow_mlgov.records.clock import to_text

    count, asked_at = standing.count, standing.entry.at
    is_granted, decided_at = standing.decision is Decision.GRANTED, standing.decided_at
    return {
        **request_facet(standing.request, count, asked_at),
        **known(
            {
                "denied_because": standing.denied_because,
                "decided_at": to_text(decided_at) if decided_at else None,
                "waited_s": (decided_at - asked_at).total_seconds() if decided_at else None,
                "expires_at": to_text(standing.expires_at) if standing.expires_at else None,
                "conditions": _conditions(standing) if is_granted and count.conditions else None,
            }
        ),
    }


def _conditions(standing: Standing) -> Facet:
    said = standing.count.conditions.as_json()
    if "segments" in said:
        said["segments"] = [
            {"column": column, "values": list(values)}
            for column, values in said["segments"].items()
        ]
    return said


def checkpoint_facet(gov: Governance, kind: str, receipt: SealedReceipt) -> Facet:
    """Return ``mlgov_checkpoint``: the ledger when a run had written its entry.

    Args:
        gov: Governance with the ledger.
        kind: Of the entry.
        receipt: Of the entry.
    """
    return {
        "origin": gov.ledger.origin,
        "size": receipt.tree_size,
        "root_hash": receipt.root_hash,
        "entry_kind": kind,
        "entry_key": receipt.key,
        "entry_index": receipt.index,
    }


def governed_facet(entry: InventoryEntry, role: str, version: Digest | None = None) -> Facet:
    """Return ``mlgov_governed``: which model a task trains or uses.

    Args:
        entry: The model.
        role: ``train`` or ``use``.
        version: Which version, if known.
    """
    stated = {"model": entry.id, "role": role, "mode": entry.mode.value}
    return stated | ({"version": str(version)} if version else {})


def _version(
    entry: InventoryEntry, manifest: Digest, namespace: str, name: str, number: str
) -> ModelRef:
    from airflow_mlgov.lineage.datasets import ModelRef

    return ModelRef(
        model=entry.id,
        namespace=namespace,
        registered_name=name,
        version=number,
        manifest=manifest,
        summary=entry.purpose,
        owner=entry.owner,
    )
