"""Training: run the script, check its output, keep evidence, register the version, record both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_mlgov.errors import TrainingError
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.contract import read_outputs
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ports import Registry
from airflow_mlgov.service.provenance import (
    TrainingInput,
    hash_script,
    refuse_changed,
)
from airflow_mlgov.service.trained import Trained, TrainedModel, conclude
from airflow_mlgov.service.training_order import TrainingOrder, read_order
from airflow_mlgov.service.training_platform import Platform, ScriptJob


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
    gov.model(order.model)
    inputs = read_order(order)
    try:
        with TemporaryDirectory(prefix="mlgov-train-") as folder:
            trained = _run(order, gov, platform, inputs, Path(folder), log)
            return conclude(order, gov, registry, inputs, trained)
    except OSError as error:
        raise TrainingError(f"The training folder cannot be used: {error}.") from error


def _run(
    order: TrainingOrder,
    gov: Governance,
    platform: Platform,
    inputs: tuple[TrainingInput, ...],
    folder: Path,
    log: Callable[[str], None],
) -> Trained:
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
    return Trained.of(
        order,
        inputs,
        outputs,
        hash_directory(outputs.model_dir, log),
        platform=platform.name,
        environment=platform.environment(),
        started_at=to_text(started_at),
        finished_at=to_text(finished_at),
        duration_s=round((finished_at - started_at).total_seconds(), 3),
    )


def _job(order: TrainingOrder, inputs: tuple[TrainingInput, ...], folder: Path) -> ScriptJob:
    return ScriptJob(
        script=order.script,
        inputs={item.name: str(item.path) for item in inputs},
        parameters=order.parameters,
        seed=order.seed,
        output_dir=folder,
        timeout_s=order.timeout_s,
        memory_mb=order.memory_mb,
    )
