"""Opens the anchors that the file in ``[mlgov] anchors_path`` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError, DocumentError, LedgerIntegrityError
from airflow_mlgov.ledger.cosignature import WitnessKey
from airflow_mlgov.policy.anchors_file import AnchorTerms, read_anchors
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.service.anchor import Anchoring, Due
from airflow_mlgov.service.ports import Anchor
from airflow_mlgov.wiring.ledger_store import open_ledger_store
from airflow_mlgov.wiring.settings import optional_setting, setting


def open_anchors() -> list[Due]:
    """Return the anchors that are configured, and how often each is due; empty without any.

    Raises:
        DocumentError: The file is malformed; a retry does not help.
        ConfigurationError: What an anchor needs is not installed; a retry does not help.
    """
    file = optional_setting("anchors_path")
    terms = [] if file is None else read_anchors(file)
    return [Due(_opened(each), each.every) for each in terms]


def open_anchoring(say: Callable[[str], None]) -> Anchoring:
    """Return what hands the configured ledger's checkpoints to the configured anchors.

    Args:
        say: Told what people should know, a sentence at a time.

    Raises:
        DocumentError: The anchors' file is malformed; a retry does not help.
        ConfigurationError: A setting is missing or wrong; a retry does not help.
    """
    from airflow_mlgov.wiring.governance import open_ledger

    store = open_ledger_store(setting("ledger_url"))
    return Anchoring(open_ledger(), store, SystemClock(), open_anchors(), say)


def configured_witnesses() -> list[WitnessKey]:
    """Return the keys of the witnesses among the configured anchors.

    Raises:
        DocumentError: The file is malformed; a retry does not help.
    """
    file = optional_setting("anchors_path")
    terms = [] if file is None else read_anchors(file)
    return [_key_of(each) for each in terms if each.kind == "witness"]


def _opened(terms: AnchorTerms) -> Anchor:
    if terms.kind == "directory":
        from airflow_mlgov.anchors.directory import DirectoryAnchor

        return DirectoryAnchor(terms.name, Path(terms.path))
    if terms.kind == "witness":
        from airflow_mlgov.anchors.witness import WitnessAnchor

        return WitnessAnchor(terms.name, terms.url, _key_of(terms))
    try:
        import rfc3161_client  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"Anchor {terms.name} needs rfc3161-client, which cannot be imported.",
            remedy="Install airflow-mlgov[tsa].",
        ) from error
    from airflow_mlgov.anchors.timestamp_authority import TimestampAnchor

    return TimestampAnchor(terms.name, terms.url, Path(terms.certificates))


def _key_of(terms: AnchorTerms) -> WitnessKey:
    try:
        return WitnessKey.parse(terms.key)
    except LedgerIntegrityError as error:
        raise DocumentError(
            error.problem,
            file=terms.file,
            line=terms.line,
            path=f"anchors.{terms.name}.key",
            remedy="Copy the key as the witness publishes it, name+hash+base64.",
        ) from error
