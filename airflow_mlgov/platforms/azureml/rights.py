"""What the identity of a connection has to be allowed to, where jobs run."""

from __future__ import annotations

from airflow_mlgov.clouds.azure import (
    STORE_DATA_ACTIONS,
    Arm,
    BlobStore,
    missing_rights,
    storage_id,
)
from airflow_mlgov.platforms.azureml.preflight import ask
from airflow_mlgov.policy.platforms_file import PlatformTerms

_ML = "Microsoft.MachineLearningServices/workspaces"

ACTIONS = (
    f"{_ML}/read",
    f"{_ML}/jobs/read",
    f"{_ML}/jobs/write",
    f"{_ML}/jobs/cancel/action",
    f"{_ML}/environments/versions/read",
    f"{_ML}/environments/versions/write",
    f"{_ML}/datastores/read",
    f"{_ML}/datastores/write",
    f"{_ML}/computes/read",
)
"""On the workspace."""
STORE_ACTIONS = ("Microsoft.Storage/storageAccounts/read",)
"""On the storage account of the output location, besides those on its blobs."""


def missing_of_jobs(arm: Arm, terms: PlatformTerms, store: BlobStore) -> list[str]:
    """Return the actions that are missing, each with its resource; empty for none.

    Raises:
        PlatformError: It cannot be asked.
    """
    account = storage_id(ask(arm, terms.account).value, terms.account, store)
    return [
        *missing_rights(arm, terms.account, ACTIONS),
        *missing_rights(arm, account, STORE_ACTIONS, STORE_DATA_ACTIONS),
    ]
