"""What a training made: its record, its version in a registry, and both on the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_mlgov.ledger.entry import entry_key
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.contract import Outputs
from airflow_mlgov.service.documents import document_bytes
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, Receipt, SealedReceipt
from airflow_mlgov.service.ports import Registry, RegistryVersion
from airflow_mlgov.service.provenance import TrainingInput, describe_code, hash_script
from airflow_mlgov.service.training_order import TrainingOrder

DOCUMENT_TYPE = "training_record"

_TIMES = frozenset({"started_at", "finished_at", "duration_s"})


@dataclass(frozen=True)
class TrainedModel:
    """A model version that is registered and on record.

    Attributes:
        model: Inventory id.
        variant: ``candidate`` or ``challenger``.
        manifest: What it consists of.
        registered: Where it lives.
        inputs: What it learnt from.
        metrics: What the script says about it.
        signature: What it takes and gives, as the script says.
        code: Digest of the script.
        evidence: Digest of the training record.
        entry_key: Of ``model.trained``.
        receipt: Of ``model.registered``, under a signed checkpoint.
        job: What the training record says of the job that it ran as; None if it ran in the task.
    """

    model: str
    variant: str
    manifest: Manifest
    registered: RegistryVersion
    inputs: tuple[TrainingInput, ...]
    metrics: Mapping[str, float]
    signature: Mapping[str, Any]
    code: Digest
    evidence: Digest
    entry_key: str
    receipt: SealedReceipt
    job: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what the task hands on, version 1; nothing is decided from it."""
        return {
            "model": self.model,
            "version": str(self.manifest.digest),
            "registry_version": self.registered.version,
            "uri": self.registered.uri,
            "variant": self.variant,
            "metrics": dict(self.metrics),
        }


@dataclass(frozen=True)
class Trained:
    """What a training made, before it is registered and on record.

    Attributes:
        outputs: Checked, in a folder that is there while it is needed.
        manifest: Of ``model/``.
        record: The training record.
    """

    outputs: Outputs
    manifest: Manifest
    record: dict[str, Any]

    @classmethod
    def of(
        cls,
        order: TrainingOrder,
        inputs: tuple[TrainingInput, ...],
        outputs: Outputs,
        manifest: Manifest,
        **said: Any,
    ) -> Trained:
        """Return it with its training record.

        Args:
            order: What was trained.
            inputs: What from.
            outputs: What the script left.
            manifest: Of its ``model/``.
            **said: What else stands in the record: ``platform``, ``environment``, times, ``job``.
        """
        record = {
            **_asked(order, inputs),
            "code_sha256": str(hash_script(order.script)),
            **describe_code(order.script),
            "version": str(manifest.digest),
            "metrics": outputs.metrics,
            "signature": outputs.signature,
            "manifest": manifest.as_json(),
            **said,
        }
        return cls(outputs, manifest, record)


def conclude(
    order: TrainingOrder,
    gov: Governance,
    registry: Registry,
    inputs: tuple[TrainingInput, ...],
    trained: Trained,
) -> TrainedModel:
    """Keep the evidence of a training, register its version, and put both on record.

    Raises:
        EvidenceError: The evidence cannot be kept.
        RegistryUnavailableError: The registry cannot be reached; a retry may help.
        LedgerUnavailableError: The ledger cannot be reached; a retry may help.
    """
    registered_name = gov.model(order.model).registered_name
    evidence, is_new = _evidence_of(order, gov, trained)
    if is_new:
        gov.evidence.put(document_bytes(trained.record))
    registered = registry.register(
        registered_name,
        trained.outputs.model_dir,
        trained.manifest,
        _tags(order, trained, evidence),
    )
    entry_key, receipt = _put_on_record(order, gov, trained, registered, inputs, evidence)
    return TrainedModel(
        model=order.model,
        variant=order.variant,
        manifest=trained.manifest,
        registered=registered,
        inputs=inputs,
        metrics=trained.outputs.metrics,
        signature=trained.outputs.signature,
        code=Digest.parse(trained.record["code_sha256"]),
        evidence=evidence,
        entry_key=entry_key,
        receipt=receipt,
        job=trained.record.get("job"),
    )


def _asked(order: TrainingOrder, inputs: tuple[TrainingInput, ...]) -> dict[str, Any]:
    """Return the part of the training record that stands before anything ran."""
    return {
        "type": DOCUMENT_TYPE,
        "v": 1,
        "model": order.model,
        "variant": order.variant,
        "script": order.script.name,
        "seed": order.seed,
        "parameters": dict(order.parameters),
        "inputs": [{**_named(item), "size": item.size_bytes} for item in inputs],
        "source": _task(order.source),
    }


def _named(item: TrainingInput) -> dict[str, Any]:
    return {"name": item.name, "uri": item.uri, "sha256": str(item.sha256)}


def _task(source: Source) -> dict[str, Any]:
    return {name: value for name, value in source.as_json().items() if name != "try_number"}


def _identity(
    order: TrainingOrder, manifest: Manifest, claim: Mapping[str, Any]
) -> tuple[str, ...]:
    """The same task of the same run that claims the same thing, whichever try it is."""
    source = order.source
    task = (source.dag_id, source.run_id, source.task_id, str(source.map_index))
    return (order.model, *task, str(manifest.digest), str(Digest.of(document_bytes(claim))))


def _claim(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _TIMES}


def _evidence_of(order: TrainingOrder, gov: Governance, trained: Trained) -> tuple[Digest, bool]:
    """Return the digest of the training record to rest on, and whether it is the one of this try.

    Two trainings take different times, so their records differ. If this task has put the same claim
    on record before (killed afterwards, retried or cleared), its record stands.
    """
    identity = _identity(order, trained.manifest, _claim(trained.record))
    key = entry_key(gov.ledger.origin, "model.trained", *identity)
    entries = gov.ledger.view().select(
        "model.trained", model=order.model, version=trained.manifest.digest
    )
    for entry in entries:
        if entry.key == key:
            return Digest.parse(entry.body["evidence_sha256"]), False
    return Digest.of(document_bytes(trained.record)), True


def _tags(order: TrainingOrder, trained: Trained, evidence: Digest) -> dict[str, str]:
    return {
        "mlgov.model": order.model,
        "mlgov.variant": order.variant,
        "mlgov.code_sha256": str(trained.record["code_sha256"]),
        "mlgov.evidence_sha256": str(evidence),
        "mlgov.dag_id": order.source.dag_id,
        "mlgov.run_id": order.source.run_id,
        "mlgov.task_id": order.source.task_id,
    }


def _put_on_record(
    order: TrainingOrder,
    gov: Governance,
    trained: Trained,
    registered: RegistryVersion,
    inputs: tuple[TrainingInput, ...],
    evidence: Digest,
) -> tuple[str, SealedReceipt]:
    """Write both entries; return the key of the first and the receipt of the second."""
    said = {
        "evidence_sha256": str(evidence),
        "inputs": [_named(item) for item in inputs],
        "variant": order.variant,
        "code_sha256": trained.record["code_sha256"],
    }
    place = {
        "registry": registered.registry,
        "name": registered.name,
        "version": registered.version,
        "variant": order.variant,
        "uri": registered.uri,
        "namespace": registered.namespace,
    }
    developer = {"developer": order.developer} if order.developer else {}

    def put(kind: str, body: dict[str, Any], claim: Mapping[str, Any], **people: Person) -> Receipt:
        draft = EntryDraft(
            kind=kind,
            model=order.model,
            version=trained.manifest.digest,
            body=body,
            identity=_identity(order, trained.manifest, claim),
            people=people,
            source=order.source,
        )
        return gov.ledger.append(draft)

    first = put("model.trained", said, _claim(trained.record), **developer)
    return first.key, gov.ledger.seal(put("model.registered", place, place))
