"""What a batch of scores is made of: its record, and its entry on the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from airflow_mlgov.errors import GuardRefusedError
from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import fingerprint_file
from airflow_mlgov.service.conditions import Rows
from airflow_mlgov.service.container_score import check_scores
from airflow_mlgov.service.container_scoring import scores_name
from airflow_mlgov.service.documents import document_bytes
from airflow_mlgov.service.durable_file import make_folder, place_file
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, LedgerView, SealedEntry, SealedReceipt
from airflow_mlgov.service.provenance import describe_code, hash_script
from airflow_mlgov.service.score import Admission, ModelInUse
from airflow_mlgov.service.scoring_order import ScoredData, ScoringOrder

DOCUMENT_TYPE = "scoring_record"

Shown: TypeAlias = Callable[[ScoredData, Sequence[str]], Rows]
"""Reads a local file and says how many rows it has, and what stands in columns."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one file.

    Attributes:
        data: Name of the file.
        uri: Where the scores are.
        sha256: Digest of their bytes.
        size_bytes: Length.
        rows: How many there are.
    """

    data: str
    uri: str
    sha256: Digest
    size_bytes: int
    rows: int

    @classmethod
    def read(cls, data: str, file: Path, uri: str) -> Scores:
        """Return what a file of scores holds.

        Args:
            data: Name of the file that was scored.
            file: The scores.
            uri: Where they are to be found later.

        Raises:
            ScoringError: It holds none; a retry does not help.
        """
        rows = check_scores(file)
        sha256, size_bytes = fingerprint_file(file)
        return cls(data, uri, sha256, size_bytes, rows)

    def as_json(self) -> dict[str, Any]:
        """Return it as the evidence states it."""
        return {
            "data": self.data,
            "uri": self.uri,
            "sha256": str(self.sha256),
            "size": self.size_bytes,
            "rows": self.rows,
        }


@dataclass(frozen=True)
class ScoredBatch:
    """Scores that are on record.

    Attributes:
        order: What was asked.
        version: Manifest digest of the files that scored.
        used: The ledger's ``model.scored`` of this task; None in a mode below ``enforce`` if a
            check failed.
        data: What was scored.
        scores: What came out, in the same order.
        evidence: Digest of the scoring record.
        receipt: Of ``batch.scored``, under a signed checkpoint.
    """

    order: ScoringOrder
    version: Digest
    used: SealedEntry | None
    data: tuple[ScoredData, ...]
    scores: tuple[Scores, ...]
    evidence: Digest
    receipt: SealedReceipt

    def as_json(self) -> dict[str, Any]:
        """Return what the task hands on, version 1; nothing is decided from it."""
        return {
            "model": self.order.model,
            "version": str(self.version) if self.used else "",
            "scores": [
                {"data": each.data, "uri": each.uri, "rows": each.rows, "sha256": str(each.sha256)}
                for each in self.scores
            ],
        }


def admitted_files(
    gov: Governance, model: ModelInUse, data: Sequence[ScoredData], shown: Shown
) -> Path:
    """Return the folder of a model's files once the rows were held against the conditions.

    Raises:
        GuardRefusedError: A row is outside of what the approval allows, or cannot be looked at
            here; on record. A retry does not help.
        DataError: A file cannot be read; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    admission = Admission(gov, model)
    conditions = admission.conditions
    if conditions.are_about_rows and all(each.path for each in data):
        for each in data:
            admission.admit(shown(each, [column for column, _ in conditions.segments]))
    return admission.files("Rows in the platform's own store are not read here.")


def use_on_record(view: LedgerView, order: ScoringOrder, version: Digest) -> SealedEntry | None:
    """Return the last ``model.scored`` that this task wrote about a version, or None."""
    entries = view.select("model.scored", model=order.model, version=version)
    mine = [entry for entry in entries if entry.source.task == order.source.task]
    return mine[-1] if mine else None


def place_scores(scores: Sequence[Scores], folder: Path, output: Path | None) -> tuple[Scores, ...]:
    """Copy scores to a folder of this machine, each whole or not at all; return where they are.

    Args:
        scores: What came out.
        folder: Holds them, under the names of `scores_name`.
        output: Where they go, in place of what is there under their names; None to leave them.

    Raises:
        OSError: They cannot be written.
    """
    if output is None:
        return tuple(scores)
    target = output.absolute()
    make_folder(target)
    placed = []
    for each in scores:
        name = scores_name(each.data)
        place_file(folder / name, target / name, 0o644)
        placed.append(replace(each, uri=(target / name).as_uri()))
    return tuple(placed)


def conclude_batch(
    order: ScoringOrder,
    gov: Governance,
    version: Digest,
    data: tuple[ScoredData, ...],
    scores: tuple[Scores, ...],
    **said: Any,
) -> ScoredBatch:
    """Keep the record of a batch, and put it on the ledger.

    Args:
        order: What was asked.
        gov: Ledger, evidence and inventory.
        version: Manifest digest of the files that scored.
        data: What was scored.
        scores: What came out.
        **said: What else stands in the record: ``platform``, ``environment``, ``job`` ...

    Raises:
        GuardRefusedError: In mode ``enforce``: the ledger does not say that this task may use that
            version; a retry does not help.
        EvidenceError: The evidence cannot be kept.
        LedgerUnavailableError: The ledger cannot be reached; a retry may help.
    """
    used = use_on_record(gov.ledger.view(), order, version)
    if used is None and gov.model(order.model).mode is Mode.ENFORCE:
        raise GuardRefusedError(
            "approval",
            f"No check of version {version} by this task is on record.",
            remedy="Clear this task: it verifies the approval anew.",
        )
    record = _record(order, version, used, data, scores, said)
    evidence = gov.evidence.put(document_bytes(record))
    draft = EntryDraft(
        kind="batch.scored",
        model=order.model,
        version=version,
        body={
            "evidence_sha256": str(evidence),
            "target": order.use.target,
            "platform": said["platform"],
            "data": [_identity(each) for each in data],
            "scores": [
                {"data": each.data, "sha256": str(each.sha256), "rows": each.rows}
                for each in scores
            ],
            **_basis(used),
        },
        identity=(*map(str, order.source.task), str(order.source.try_number), str(evidence)),
        source=order.source,
    )
    receipt = gov.ledger.seal(gov.ledger.append(draft))
    return ScoredBatch(order, version, used, data, scores, evidence, receipt)


def _record(
    order: ScoringOrder,
    version: Digest,
    used: SealedEntry | None,
    data: Sequence[ScoredData],
    scores: Sequence[Scores],
    said: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "type": DOCUMENT_TYPE,
        "v": 1,
        "model": order.model,
        "version": str(version),
        "target": order.use.target,
        "alias": order.use.alias,
        "script": order.script.name,
        "code_sha256": str(hash_script(order.script)),
        **describe_code(order.script),
        "parameters": dict(order.parameters),
        "data": [each.as_json() for each in data],
        "scores": [each.as_json() for each in scores],
        "source": order.source.as_json(),
        **_basis(used),
        **said,
    }


def _basis(used: SealedEntry | None) -> dict[str, Any]:
    """Return what the use rests on, as ``model.scored`` states it; nothing if it rests on none."""
    body: Mapping[str, Any] = used.body if used else {}
    return {name: body[name] for name in ("request_sha256", "breakglass") if name in body}


def _identity(data: ScoredData) -> dict[str, str]:
    said = {"sha256": str(data.sha256)} if data.sha256 else {"version": data.version}
    return {"name": data.name, "uri": data.uri, **said}
