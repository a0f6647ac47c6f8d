"""What stands in the fake Azure from the start: a workspace as a bank would have it."""

from __future__ import annotations

import re
from typing import Any

GROUP = "/subscriptions/00000000-1111-2222-3333-444444444444/resourceGroups/models"
ML = "Microsoft.MachineLearningServices"
WORKSPACE = f"{GROUP}/providers/{ML}/workspaces/bank-ml"
REGISTRY = f"{GROUP}/providers/{ML}/registries/bank-models"
ACCOUNT, CONTAINER = "devstoreaccount1", "mlgov"
STORAGE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
IMAGE = "bank.azurecr.io/train@sha256:" + "a" * 64
CONNECTION = "azure_test"


def account_resources(port: int) -> dict[str, dict[str, Any]]:
    """Return resources by their ids, the fake being served at a port of this machine."""
    vault = f"{GROUP}/providers/Microsoft.KeyVault/vaults/bank"
    key = "https://bank.vault.azure.net/keys/models/1"
    workspace = {
        "storageAccount": STORAGE, "publicNetworkAccess": "Disabled", "hbiWorkspace": True,
        "encryption": {
            "status": "Enabled",
            "keyVaultProperties": {"keyVaultArmId": vault, "keyIdentifier": key},
        },
        "managedNetwork": {"isolationMode": "AllowOnlyApprovedOutbound"},
    }  # fmt: skip
    storage = {
        "publicNetworkAccess": "Disabled", "allowBlobPublicAccess": False,
        "encryption": {
            "keySource": "Microsoft.Keyvault",
            "keyvaultproperties": {"keyname": "models", "keyvaulturi": "https://bank.vault.azure.net"},
        },
    }  # fmt: skip
    artefacts = {
        "datastoreType": "AzureBlob", "accountName": ACCOUNT, "containerName": "azureml",
        "endpoint": f"127.0.0.1:{port}", "protocol": "http",
        "credentials": {"credentialsType": "None"},
    }  # fmt: skip
    cluster = {
        "computeType": "AmlCompute", "computeLocation": "westeurope",
        "properties": {
            "vmSize": "Standard_DS3_v2", "vmPriority": "Dedicated", "enableNodePublicIp": False,
            "subnet": {"id": f"{GROUP}/providers/Microsoft.Network/virtualNetworks/v/subnets/s"},
        },
    }  # fmt: skip
    made = (
        (WORKSPACE, "westeurope", workspace), (REGISTRY, "westeurope", {}),
        (STORAGE, "westeurope", storage), (f"{WORKSPACE}/computes/cluster", "westeurope", cluster),
        (f"{WORKSPACE}/datastores/workspaceartifactstore", "", artefacts),
    )  # fmt: skip
    return {
        path: {
            "id": path, "name": path.rpartition("/")[2], "type": f"{ML}/any",
            "location": location, "properties": properties,
        }
        for path, location, properties in made
    }  # fmt: skip


def connection(token: str) -> dict[str, Any]:
    """Return the Airflow connection that works, as JSON values."""
    return {
        "conn_type": "azure",
        "login": "11111111-0000-0000-0000-000000000000",
        "password": token,
        "extra": {"tenantId": "22222222-0000-0000-0000-000000000000", "account_key": KEY},
    }


def split_path(path: str) -> tuple[str, str, str]:
    """Return a path's workspace or registry, the kind of what is asked for, and its name."""
    if "/Microsoft.Storage/" in path:
        return path, "storage", ""
    match = re.fullmatch(r"(.*/(?:workspaces|registries)/[^/]+)(?:/([^/]+)/(.+))?", path)
    if match is None:
        return path, "account", ""
    return match[1], match[2] or "account", match[3] or ""
