"""What the identity of a connection may do in Azure, held against what it has to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_mlgov.clouds.azure import Arm, BlobStore
from airflow_mlgov.platforms.azureml.preflight import ask, storage_id
from airflow_mlgov.policy.platforms_file import PlatformTerms

_API = "2022-04-01"
_ML = "Microsoft.MachineLearningServices/workspaces"
_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers"

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
    f"{_ML}/models/versions/read",
    f"{_ML}/models/versions/write",
)
"""On the workspace."""
STORE_ACTIONS = ("Microsoft.Storage/storageAccounts/read",)
STORE_DATA_ACTIONS = (f"{_BLOBS}/blobs/read", f"{_BLOBS}/blobs/write", f"{_BLOBS}/blobs/delete")
"""On the storage account of the output location."""


def missing_rights(arm: Arm, terms: PlatformTerms, store: BlobStore) -> list[str]:
    """Return the actions that are missing, each with its resource; empty for none.

    Raises:
        PlatformError: It cannot be asked.
    """
    account = storage_id(ask(arm, terms.account).value, terms, store)
    workspace, storage = _granted(arm, terms.account), _granted(arm, account)
    return [
        *_missing(terms.account, ACTIONS, workspace, "actions", "notActions"),
        *_missing(account, STORE_ACTIONS, storage, "actions", "notActions"),
        *_missing(account, STORE_DATA_ACTIONS, storage, "dataActions", "notDataActions"),
    ]


def _granted(arm: Arm, resource: str) -> list[dict[str, Any]]:
    path = f"{resource}/providers/Microsoft.Authorization/permissions"
    return list((arm.get(path, api=_API) or {}).get("value", ()))


def _missing(
    resource: str, wanted: Iterable[str], granted: list[dict[str, Any]], yes: str, no: str
) -> list[str]:
    return [
        f"{action} on {resource}"
        for action in wanted
        if not any(_allows(each, action, yes, no) for each in granted)
    ]


def _allows(granted: Mapping[str, Any], action: str, yes: str, no: str) -> bool:
    """Whether one assignment of a role allows it; what one takes out another may still give."""
    return any(_matches(each, action) for each in granted.get(yes) or ()) and not any(
        _matches(each, action) for each in granted.get(no) or ()
    )


def _matches(pattern: str, action: str) -> bool:
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(".*".join(parts), action, re.IGNORECASE) is not None
