"""What lineage says about versions and approvals, looked up in the ledger and the inventory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlgov.errors import VersionNotFoundError

if TYPE_CHECKING:
    from airflow_mlgov.lineage.datasets import ApprovalRef, Dataset, ModelRef
    from airflow_mlgov.policy.inventory import InventoryEntry
    from airflow_mlgov.records.digest import Digest
    from airflow_mlgov.records.governance import ApprovalRequest
    from airflow_mlgov.service.allow_use import AnyClearance
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.ledger import LedgerView
    from airflow_mlgov.service.ports import RegistryVersion


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
    from airflow_mlgov.lineage.datasets import ApprovalRef
    from airflow_mlgov.records.digest import Digest

    for entry in reversed(view.select("model.promoted", model=model)):
        body = entry.body
        if entry.version and (body["target"], body["alias"]) == (target, alias):
            version = version_on_record(gov, view, model, entry.version)
            request = Digest.parse(body["request_sha256"])
            return ApprovalRef(version, target, request, "breakglass" in body)
    return None


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
