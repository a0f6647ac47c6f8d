"""A model that was trained by a task of somebody else's: what can be known of that, and no more."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_mlgov.records.source import Source
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft


def record_outside_training(
    gov: Governance, model: str, source: Source, code: Mapping[str, str]
) -> None:
    """Put on record that a task which the inventory names as training a model has succeeded.

    Which data it read, what it wrote and whether that is registered anywhere is not known, so that
    the entry names no version and is no evidence for an approval.

    Args:
        gov: Governance.
        model: Inventory id.
        source: The task.
        code: What is known of its code, by name: ``operator``, ``file``, ``code_sha256`` (of that
            file alone), ``bundle``, ``bundle_version``.

    Raises:
        LedgerUnavailableError: The ledger cannot be written; a retry may help.
    """
    draft = EntryDraft(
        kind="model.trained_outside",
        model=model,
        version=None,
        body=dict(code),
        identity=(model, *map(str, source.task), str(source.try_number)),
        source=source,
    )
    gov.ledger.seal(gov.ledger.append(draft))
