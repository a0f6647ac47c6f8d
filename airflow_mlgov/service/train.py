"""Training: run the script, check its output, keep evidence, register the version, record both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_mlgov.errors import ConfigurationError, TrainingError
from airflow_mlgov.ledger.entry import entry_key
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.contract import Outputs, check_request, read_outputs
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, Receipt, SealedReceipt
from airflow_mlgov.service.ports import Registry, RegistryVersion
from airflow_mlgov.service.provenance import (
    TrainingInput,
    describe_code,
    describe_environment,
    hash_script,
    read_input,
    refuse_changed,
)
from airflow_mlgov.service.training_platform import Platform, TrainingJob

DOCUMENT_TYPE = "training_record"
VARIANTS = ("candidate", "challenger")

_TIMES = frozenset({"started_at", "finished_at", "duration_s"})


@dataclass(frozen=True)
class TrainingOrder:
    """What somebody wants trained.

    Attributes:
        model: Inventory id.
        script: Training script.
        inputs: Paths of files by the name that the script knows them by.
        parameters: JSON values.
        seed: 0 to 2^32-1.
        variant: ``candidate`` or ``challenger``.
        timeout_s: Wall-clock limit in seconds, above 0; None for no limit.
        memory_mb: Limit in MiB, above 0; None for no limit.
        source: Which task asks.
        developer: Who triggered the run, if known.
    """

    model: str
    script: Path
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    variant: str = "candidate"
    timeout_s: float | None = None
    memory_mb: int | None = None
    source: Source = field(default_factory=Source)
    developer: Person | None = None


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
class _Trained:
    outputs: Outputs
    manifest: Manifest
    record: dict[str, Any]


def train(
    order: TrainingOrder,
    gov: Governance,
    platform: Platform,
    registry: Registry,
    log: Callable[[str], None],
) -> TrainedModel:
    """Train a model version, register it as a candidate, and put both on record.

    The evidence is kept first, then the version is registered, then the entries are written:
    whatever is killed in between leaves nothing that counts, and the next try completes it. A retry
    with the same result finds its first try's entries and adds none; the training record kept is
    then the first one.

    Args:
        order: What to train.
        gov: Ledger, evidence and inventory.
        platform: Where it runs.
        registry: Where the version goes.
        log: Told each line of the script's output as it comes.

    Raises:
        ConfigurationError: The order asks for what cannot be; a retry does not help.
        DataError: An input is missing or changed meanwhile; a retry does not help.
        TrainingError: The script failed or broke its contract; a retry does not help.
        ArtefactError: The model directory holds what may not be there; a retry does not help.
        EvidenceError: The evidence cannot be kept.
        RegistryUnavailableError: The registry cannot be reached; a retry may help.
        LedgerUnavailableError: The ledger cannot be reached; a retry may help.
    """
    registered_name = gov.model(order.model).registered_name
    _check_order(order)
    inputs = tuple(read_input(name, order.inputs[name]) for name in sorted(order.inputs))
    try:
        with TemporaryDirectory(prefix="mlgov-train-") as folder:
            trained = _run(order, gov, platform, inputs, Path(folder), log)
            evidence, is_new = _evidence_of(order, gov, trained)
            if is_new:
                gov.evidence.put(_document(trained.record))
            registered = registry.register(
                registered_name,
                trained.outputs.model_dir,
                trained.manifest,
                _tags(order, trained, evidence),
            )
    except OSError as error:
        raise TrainingError(f"The training folder cannot be used: {error}.") from error
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
    )


def _check_order(order: TrainingOrder) -> None:
    check_request(order.inputs, order.parameters, order.seed)
    if order.variant not in VARIANTS:
        raise ConfigurationError(
            f"Variant {order.variant!r} is not known.", remedy=f"Use one of: {', '.join(VARIANTS)}."
        )
    for name, limit in (("timeout_s", order.timeout_s), ("memory_mb", order.memory_mb)):
        if limit is not None and not limit > 0:
            raise ConfigurationError(f"Training limit {name} is {limit}, not above 0.")


def _run(
    order: TrainingOrder,
    gov: Governance,
    platform: Platform,
    inputs: tuple[TrainingInput, ...],
    folder: Path,
    log: Callable[[str], None],
) -> _Trained:
    code_sha256 = hash_script(order.script)
    started_at = gov.clock.now()
    platform.run(_job(order, inputs, folder), log)
    finished_at = gov.clock.now()
    for item in inputs:
        refuse_changed(item)
    if hash_script(order.script) != code_sha256:
        raise TrainingError(
            f"Training script {order.script.name} changed while it ran.", remedy="Train again."
        )
    outputs = read_outputs(folder)
    manifest = hash_directory(outputs.model_dir, log)
    record = {
        **_asked(order, inputs),
        "platform": platform.name,
        "code_sha256": str(code_sha256),
        **describe_code(order.script),
        "environment": describe_environment(),
        "version": str(manifest.digest),
        "metrics": outputs.metrics,
        "signature": outputs.signature,
        "manifest": manifest.as_json(),
        "started_at": to_text(started_at),
        "finished_at": to_text(finished_at),
        "duration_s": round((finished_at - started_at).total_seconds(), 3),
    }
    return _Trained(outputs, manifest, record)


def _job(order: TrainingOrder, inputs: tuple[TrainingInput, ...], folder: Path) -> TrainingJob:
    return TrainingJob(
        script=order.script,
        inputs={item.name: str(item.path) for item in inputs},
        parameters=order.parameters,
        seed=order.seed,
        output_dir=folder,
        timeout_s=order.timeout_s,
        memory_mb=order.memory_mb,
        env={},
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


def _document(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, ensure_ascii=True, allow_nan=False).encode("ascii")


def _identity(
    order: TrainingOrder, manifest: Manifest, claim: Mapping[str, Any]
) -> tuple[str, ...]:
    """The same task of the same run that claims the same thing, whichever try it is."""
    source = order.source
    task = (source.dag_id, source.run_id, source.task_id, str(source.map_index))
    return (order.model, *task, str(manifest.digest), str(Digest.of(_document(claim))))


def _claim(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _TIMES}


def _evidence_of(order: TrainingOrder, gov: Governance, trained: _Trained) -> tuple[Digest, bool]:
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
    return Digest.of(_document(trained.record)), True


def _tags(order: TrainingOrder, trained: _Trained, evidence: Digest) -> dict[str, str]:
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
    trained: _Trained,
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
