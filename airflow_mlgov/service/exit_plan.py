"""What an exit rehearsal trains again: the specification in a version's training record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlgov.errors import (
    ConfigurationError,
    DataError,
    TrainingError,
    UnknownSubjectError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.documents import of_type, read_document
from airflow_mlgov.service.provenance import describe_code, hash_script
from airflow_mlgov.service.training_order import TrainingOrder, read_order

if TYPE_CHECKING:
    from airflow_mlgov.policy.pack import ExitRules, PolicyPack
    from airflow_mlgov.service.governance import Governance


@dataclass(frozen=True, slots=True)
class ExitQuestion:
    """What somebody wants to know: can this model be made elsewhere?

    Attributes:
        model: Inventory id.
        from_platform: Where the version was trained.
        to_platform: Where it is to be trained again.
        script: The training script, as it was then.
        inputs: Where the data are now, by name; of others the training record's addresses hold.
        version: Manifest digest; None for the newest candidate that was trained there.
        source: Which task asks.
    """

    model: str
    from_platform: str
    to_platform: str
    script: Path
    inputs: Mapping[str, str] = field(default_factory=dict)
    version: Digest | None = None
    source: Source = field(default_factory=Source)


@dataclass(frozen=True)
class RehearsalPlan:
    """A specification that is to be trained again.

    Attributes:
        question: What was asked.
        version: The version that was trained on the first platform.
        evidence: Digest of its training record.
        record: That record.
        order: The same, for the other platform.
        pack: The model's policy pack.
        rules: What it says of rehearsals.
    """

    question: ExitQuestion
    version: Digest
    evidence: Digest
    record: Mapping[str, Any]
    order: TrainingOrder
    pack: PolicyPack
    rules: ExitRules


def plan_rehearsal(gov: Governance, question: ExitQuestion) -> RehearsalPlan:
    """Return what is to be trained again, once code and data are the recorded ones.

    Raises:
        ConfigurationError: The pack has no section ``exit``, or both platforms are one; a retry
            does not help.
        UnknownSubjectError: No version of this model was trained there; a retry does not help.
        EvidenceError: The training record is missing or malformed; a retry does not help.
        TrainingError: The script, or a file beside it, is another; a retry does not help.
        DataError: An input is missing or another; a retry does not help.
    """
    pack = gov.pack_for(gov.model(question.model))
    if pack.exit is None:
        raise ConfigurationError(
            f"{pack.file}: pack {pack.id!r} has no section 'exit', so nothing says how alike the "
            "scores must be.",
            remedy="Add max_difference, mean_difference, min_rank_agreement and max_psi under "
            "'exit'.",
        )
    if question.from_platform == question.to_platform:
        raise ConfigurationError(
            f"A rehearsal leaves one platform for another, and both are {question.to_platform!r}."
        )
    version, evidence, record = _trained_there(gov, question)
    order = _ordered_again(question, evidence, record)
    return RehearsalPlan(question, version, evidence, record, order, pack, pack.exit)


def _trained_there(
    gov: Governance, question: ExitQuestion
) -> tuple[Digest, Digest, dict[str, Any]]:
    """Return version, digest and content of the newest training record that fits."""
    for entry in reversed(gov.ledger.view().select("model.trained", model=question.model)):
        meant = question.version or entry.version
        if entry.version != meant or (
            question.version is None and entry.body.get("variant", "candidate") != "candidate"
        ):
            continue
        digest = Digest.parse(entry.body["evidence_sha256"])
        record = read_document(gov, "model.trained", digest, _recorded)
        if record["platform"] == question.from_platform and entry.version is not None:
            return entry.version, digest, record
    which = f"Version {question.version}" if question.version else "No version"
    verb = "was not trained" if question.version else "was trained"
    raise UnknownSubjectError(
        f"{which} of model {question.model!r} {verb} on platform {question.from_platform!r}.",
        remedy="'airflow mlgov ledger show' lists what was trained.",
    )


def _recorded(document: dict[str, Any]) -> dict[str, Any]:
    """Check the parts of a training record that are used here."""
    of_type(document["parameters"], dict)
    of_type(document["seed"], int)
    of_type(document.get("environment", {}), dict)
    for key in ("platform", "code_sha256"):
        of_type(document[key], str)
    for name, sha256 in of_type(document.get("code_files", {}), dict).items():
        of_type(name, str), of_type(sha256, str)
    for item in of_type(document["inputs"], list):
        for key in ("name", "uri", "sha256"):
            of_type(of_type(item, dict)[key], str)
    return document


def _ordered_again(
    question: ExitQuestion, evidence: Digest, record: Mapping[str, Any]
) -> TrainingOrder:
    recorded = {item["name"]: item for item in record["inputs"]}
    if unknown := sorted(question.inputs.keys() - recorded.keys()):
        raise ConfigurationError(
            f"The version has no input {', '.join(unknown)}.",
            remedy=f"Its inputs are: {', '.join(recorded)}.",
        )
    order = TrainingOrder(
        model=question.model,
        script=question.script,
        inputs={name: question.inputs.get(name, item["uri"]) for name, item in recorded.items()},
        parameters=record["parameters"],
        seed=record["seed"],
        source=question.source,
    )
    for item in read_order(order):
        if str(item.sha256) != recorded[item.name]["sha256"]:
            raise DataError(
                f"Input {item.name!r} ({item.path}) is not what the version learnt from: it is "
                f"{item.sha256}, and training record {evidence} says "
                f"{recorded[item.name]['sha256']}.",
                remedy="Give the file that was used, by the name of the input.",
            )
    refuse_other_code(order.script, record)
    return order


def refuse_other_code(script: Path, record: Mapping[str, Any]) -> None:
    """Do nothing if a script, and all that stood beside it, are the recorded ones.

    Raises:
        TrainingError: They are not; a retry does not help.
    """
    files = describe_code(script)["code_files"] if script.is_file() else {}
    then = record.get("code_files", {})
    other = sorted(name for name, sha256 in then.items() if files.get(name) != sha256)
    if str(hash_script(script)) != record["code_sha256"]:
        other = [script.name, *(name for name in other if name != script.name)]
    if other:
        commit = record.get("git_commit")
        raise TrainingError(
            f"{', '.join(other)} in {script.parent} is not what the version was trained with.",
            remedy=f"Check out commit {commit}." if commit else "Give the script as it was then.",
        )
