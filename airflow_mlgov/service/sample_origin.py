"""Whether samples are what they are taken for: seen in training, or never seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from airflow_mlgov.errors import DataError

if TYPE_CHECKING:
    from airflow_mlgov.ledger.view import LedgerView
    from airflow_mlgov.records.digest import Digest


class SampleFile(Protocol):
    """Bytes that a sample was read from."""

    @property
    def uri(self) -> str:
        """Where they were read, without credentials."""
        ...

    @property
    def sha256(self) -> Digest:
        """Their digest."""
        ...


def refuse_mistaken_samples(
    view: LedgerView,
    model: str,
    version: Digest,
    *,
    development: SampleFile,
    validation: SampleFile,
) -> None:
    """Do nothing if the version learnt from the one sample and not from the other.

    Files are told apart by their bytes. The same rows written anew pass for another file.

    Args:
        view: The ledger, which says what the version was trained on.
        model: Inventory id.
        version: Manifest digest of the version that is validated.
        development: Has to be an input of the version's latest training.
        validation: May be an input of none of its trainings.

    Raises:
        DataError: Both are the same data, or one is not what it is taken for; a retry does not
            help.

    Source:
        SS1/23 principle 4 and SR 26-2: outcomes analysis on data that the model was not fitted on.
    """
    if development.sha256 == validation.sha256:
        raise DataError(
            f"Development sample {development.uri} and validation sample {validation.uri} are the "
            f"same data ({development.sha256}).",
            remedy="Validate on data that the version has not seen.",
        )
    trainings = [
        entry.body["inputs"] for entry in view.select("model.trained", model=model, version=version)
    ]
    if not trainings:
        raise DataError(
            f"No training of version {version} of model {model!r} is on record, so nothing says "
            f"whether it has seen {development.uri} and {validation.uri}.",
            remedy="Train it with TrainModelOperator.",
        )
    if not _named(trainings[-1], development):
        raise DataError(
            f"Development sample {development.uri} ({development.sha256}) is not what version "
            f"{version} of model {model!r} was trained on: {_listed(trainings[-1])}.",
            remedy="Give the file that the training had as input, unchanged since.",
        )
    seen = [item for inputs in trainings for item in _named(inputs, validation)]
    if seen:
        raise DataError(
            f"Validation sample {validation.uri} ({validation.sha256}) is what version {version} "
            f"of model {model!r} was trained on: {_listed(seen[-1:])}.",
            remedy="Validate on data that the version has not seen.",
        )


def _named(inputs: list[dict[str, Any]], sample: SampleFile) -> list[dict[str, Any]]:
    return [item for item in inputs if item["sha256"] == str(sample.sha256)]


def _listed(inputs: list[dict[str, Any]]) -> str:
    shown = [f"input {item['name']!r} was {item['uri']} ({item['sha256']})" for item in inputs]
    return ", ".join(shown) or "it had no input"
