"""What the identity of a connection may do in Azure, held against what it has to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_mlgov.clouds.azure.arm import Arm
from airflow_mlgov.clouds.azure.blobs import BlobStore

_API = "2022-04-01"
_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"

STORE_DATA_ACTIONS = (f"{_BLOBS}/read", f"{_BLOBS}/write", f"{_BLOBS}/delete")
"""On the storage account of an entry's store; what `BlobStore` does."""


def missing_rights(
    arm: Arm, resource: str, actions: Iterable[str], data_actions: Iterable[str] = ()
) -> list[str]:
    """Return the actions that are missing, each with the resource; empty for none.

    Args:
        arm: Asks for them.
        resource: Id of what they are done to.
        actions: Of the resource manager.
        data_actions: Of the resource itself.

    Raises:
        MlgovError: As `AzureSession.talking`: it cannot be asked.
    """
    path = f"{resource}/providers/Microsoft.Authorization/permissions"
    granted = list((arm.get(path, api=_API) or {}).get("value", ()))
    return [
        *_missing(resource, actions, granted, "actions", "notActions"),
        *_missing(resource, data_actions, granted, "dataActions", "notDataActions"),
    ]


def storage_id(workspace: Mapping[str, Any], account: str, store: BlobStore) -> str:
    """Return the resource id of a store's account: the workspace's own, or one beside it.

    Args:
        workspace: As the resource manager shows it; empty if it is not known or a registry.
        account: Its resource id.
        store: Whose account.
    """
    own = str(workspace.get("properties", {}).get("storageAccount") or "")
    if own.rpartition("/")[2] == store.account:
        return own
    group = account.partition("/providers/")[0]
    return f"{group}/providers/Microsoft.Storage/storageAccounts/{store.account}"


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
