"""What a request to Azure ML cannot say, asked of the account: keys, regions, networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_mlgov.clouds.azure import Arm, BlobStore, storage_id
from airflow_mlgov.errors import PlatformError
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms

STORAGE_API = "2023-05-01"

_MANAGED = frozenset({"AllowInternetOutbound", "AllowOnlyApprovedOutbound"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A resource, or why it is not known.

    Attributes:
        value: Empty if it is not known.
        why: Empty if it is.
    """

    value: Mapping[str, Any]
    why: str = ""

    def at(self, *path: str) -> Any:
        """Return what stands at a path; None for nothing."""
        value: Any = self.value
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def ask(arm: Arm, path: str, **api: str) -> Answer:
    """Ask for a resource; what goes wrong is part of the answer."""
    try:
        found = arm.get(path, **api)
    except PlatformError as error:
        return Answer({}, error.problem)
    return Answer({}, f"there is no {path}") if found is None else Answer(found)


def preflight(arm: Arm, terms: PlatformTerms, store: BlobStore) -> list[Stated]:
    """Return what workspace, compute and storage account say about the subjects of controls."""
    workspace = ask(arm, terms.account)
    storage = ask(arm, storage_id(workspace.value, terms.account, store), api=STORAGE_API)
    said = [*_workspace(workspace), *_storage(storage)]
    if terms.instance.compute:
        compute = ask(arm, f"{terms.account}/computes/{terms.instance.compute}")
        said = [*_without_network(said), *_compute(compute, workspace)]
    return said


def place(location: Any) -> str | None:
    """Return the one spelling of a region (``westeurope`` for ``West Europe``)."""
    return str(location).replace(" ", "").lower() if location else None


def _workspace(workspace: Answer) -> Iterator[Stated]:
    mode = workspace.at("properties", "managedNetwork", "isolationMode")
    key = _enabled_key(workspace)
    for each in (
        Stated("region", "workspace location", place(workspace.at("location"))),
        Stated("key.model", "workspace encryption.keyVaultProperties.keyIdentifier", key),
        Stated("network.private", "workspace managedNetwork.isolationMode", mode in _MANAGED),
        Stated(
            "network.isolated",
            "workspace managedNetwork.isolationMode",
            mode == "AllowOnlyApprovedOutbound",
        ),
        Stated("network.public", "workspace publicNetworkAccess", _public(workspace)),
    ):
        yield _unless_unknown(each, workspace)
    # Microsoft's "Data encryption with Azure Machine Learning": disks of compute have its own keys.
    yield Stated("key.volume", "disks of Azure ML compute (Microsoft's keys)", None)


def _storage(storage: Answer) -> Iterator[Stated]:
    key = key_of_storage(storage.value)
    blobs = storage.at("properties", "allowBlobPublicAccess")
    for each in (
        Stated("region.data", "storage account location", place(storage.at("location"))),
        Stated("key.output", "storage account encryption.keySource", key),
        Stated("key.model", "storage account encryption.keySource", key),
        Stated("network.public", "storage account publicNetworkAccess", _public(storage)),
        # Accounts of before 2023 say nothing, and allow it.
        Stated("network.public", "storage account allowBlobPublicAccess", blobs is not False),
    ):
        yield _unless_unknown(each, storage)


def _compute(compute: Answer, workspace: Answer) -> Iterator[Stated]:
    """A cluster has a network and a priority of its own, and may be somewhere else."""
    managed = workspace.at("properties", "managedNetwork", "isolationMode")
    mine = ("properties", "properties")
    subnet = compute.at(*mine, "subnet", "id")
    where = compute.at("properties", "computeLocation") or compute.at("location")
    for each in (
        Stated("region", "compute location", place(where)),
        Stated(
            "network.private",
            "compute subnet.id, workspace managedNetwork.isolationMode",
            bool(subnet) or managed in _MANAGED,
        ),
        Stated(
            "network.isolated",
            "workspace managedNetwork.isolationMode",
            managed == "AllowOnlyApprovedOutbound",
        ),
        Stated(
            "network.public",
            "compute enableNodePublicIp",
            compute.at(*mine, "enableNodePublicIp") is not False,
        ),
        Stated("spot", "compute vmPriority", compute.at(*mine, "vmPriority") != "Dedicated"),
    ):
        yield _unless_unknown(_unless_unknown(each, compute), workspace)


def _without_network(said: list[Stated]) -> list[Stated]:
    return [each for each in said if each.subject not in {"network.private", "network.isolated"}]


def key_of_storage(account: Mapping[str, Any]) -> str | None:
    """Return the customer's key that encrypts a storage account; None for Microsoft's."""
    encryption = account.get("properties", {}).get("encryption") or {}
    if encryption.get("keySource") != "Microsoft.Keyvault":
        return None
    vault = encryption.get("keyvaultproperties") or {}
    return f"{str(vault.get('keyvaulturi', '')).rstrip('/')}/keys/{vault.get('keyname', '')}"


def _enabled_key(workspace: Answer) -> str | None:
    if workspace.at("properties", "encryption", "status") != "Enabled":
        return None
    key = workspace.at("properties", "encryption", "keyVaultProperties", "keyIdentifier")
    return str(key) if key else None


def _public(resource: Answer) -> bool:
    """Whether the public may reach it: said, or not said, which is Azure's word for yes."""
    return bool(resource.at("properties", "publicNetworkAccess") != "Disabled")


def _unless_unknown(said: Stated, answer: Answer) -> Stated:
    return replace(said, value=None, unknown=answer.why) if answer.why else said
