"""Shapes of Azure ML's REST API, version 2024-10-01, as far as we speak it.

Written by hand from the REST reference (azure-rest-api-specs, machinelearningservices, stable
2024-10-01, ``mfe.json`` and ``machineLearningServices.json``) and Microsoft.Storage 2023-05-01;
nothing of Azure was asked. They are stricter than the reference where that finds mistakes: a
request may hold no field that the reference has not, and enumerations that the reference leaves
open are closed.
"""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string", "minLength": 1}
_WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
_GUID = {
    "type": "string",
    "pattern": "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$",
}
_ARM_ID = {
    "type": "string",
    "pattern": "^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/[^/]+/.+",
}
_DATA_URI = {
    "type": "string",
    "pattern": r"^(azureml://datastores/[a-z0-9_]+/paths/[^?#]+|https?://.+|wasbs://.+|abfss://.+)$",
}
NAME = r"^[a-zA-Z0-9][a-zA-Z0-9\-_]{0,254}$"


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def _request(required: list[str], **properties: Any) -> dict[str, Any]:
    return _closed(["properties"], properties=_closed(required, **properties))


def _answer(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """An ARM resource, its properties open: the reference says that there may be more."""
    return {
        "type": "object",
        "required": ["id", "name", "type", "properties"],
        "properties": {
            "id": _ARM_ID,
            "name": _TEXT,
            "type": {"type": "string", "pattern": "^Microsoft\\."},
            "properties": {"type": "object", "required": required, "properties": properties},
        },
    }


_INPUT = _closed(
    ["jobInputType", "uri"],
    description={"type": "string"},
    jobInputType={"enum": ["uri_file", "uri_folder"]},
    mode={"enum": ["ReadOnlyMount", "ReadWriteMount", "Download", "Direct"]},
    uri=_DATA_URI,
)
_OUTPUT = _closed(
    ["jobOutputType"],
    description={"type": "string"},
    jobOutputType={"enum": ["uri_file", "uri_folder"]},
    mode={"enum": ["ReadWriteMount", "Upload", "Direct"]},
    uri={"type": "string", "pattern": r"^azureml://datastores/[a-z0-9_]+/paths/[^?#]+$"},
)
_JOB: dict[str, Any] = {
    "jobType": {"const": "Command"},
    "displayName": _TEXT,
    "experimentName": {"type": "string", "pattern": NAME},
    "description": {"type": "string"},
    "command": {"type": "string", "minLength": 1, "pattern": "[a-zA-Z0-9_]"},
    "environmentId": _ARM_ID,
    "computeId": _ARM_ID,
    "resources": _closed(
        ["instanceCount"],
        instanceCount={"type": "integer", "minimum": 1},
        instanceType=_TEXT,
        shmSize={"type": "string", "pattern": r"\d+[bBkKmMgG]"},
    ),
    "queueSettings": _closed(
        [], jobTier={"enum": ["Null", "Spot", "Basic", "Standard", "Premium"]}
    ),
    "inputs": {"type": "object", "additionalProperties": _INPUT},
    "outputs": {"type": "object", "additionalProperties": _OUTPUT},
    "identity": {
        "oneOf": [
            _closed(["identityType"], identityType={"enum": ["AMLToken", "UserIdentity"]}),
            _closed(["identityType"], identityType={"const": "Managed"}, clientId=_GUID),
        ]
    },
    "limits": _closed(
        ["jobLimitsType"],
        jobLimitsType={"const": "Command"},
        timeout={"type": "string", "pattern": r"^PT(?=\d)(\d+H)?(\d+M)?(\d+S)?$"},
    ),
    "tags": _WORDS,
    "properties": _WORDS,
    "isArchived": {"type": "boolean"},
}
_ENVIRONMENT = {
    "image": _TEXT,
    "osType": {"enum": ["Linux", "Windows"]},
    "description": {"type": "string"},
    "tags": _WORDS,
    "properties": _WORDS,
    "stage": {"type": "string"},
}
_DATASTORE = {
    "datastoreType": {"const": "AzureBlob"},
    "accountName": _TEXT,
    "containerName": _TEXT,
    "endpoint": _TEXT,
    "protocol": {"enum": ["https", "http"]},
    "credentials": _closed(["credentialsType"], credentialsType={"const": "None"}),
    "serviceDataAccessAuthIdentity": {
        "enum": ["None", "WorkspaceSystemAssignedIdentity", "WorkspaceUserAssignedIdentity"]
    },
    "tags": _WORDS,
}
_MODEL = {
    "modelType": {"enum": ["custom_model", "mlflow_model", "triton_model"]},
    "modelUri": _TEXT,
    "stage": {"type": "string"},
    "jobName": {"type": "string"},
    "description": {"type": "string"},
    "isAnonymous": {"type": "boolean"},
    "isArchived": {"type": "boolean"},
    "flavors": {"type": "object"},
    "tags": _WORDS,
    "properties": _WORDS,
}

REQUESTS: dict[str, dict[str, Any]] = {
    "jobs": {
        **_request(["jobType", "command", "environmentId"], **_JOB),
    },
    "environments": _request(["image"], **_ENVIRONMENT),
    "datastores": _request(
        ["datastoreType", "credentials", "accountName", "containerName"], **_DATASTORE
    ),
    "models": _request([], **_MODEL),
}
"""Body of a ``PUT`` by kind of resource."""

_SERVICE = {"type": "object", "properties": {"endpoint": _TEXT, "jobServiceType": _TEXT}}
ANSWERS: dict[str, dict[str, Any]] = {
    "jobs": _answer(
        {
            **_JOB,
            "status": {"type": "string"},
            "services": {"type": "object", "additionalProperties": _SERVICE},
        },
        ["jobType", "status", "command", "environmentId"],
    ),
    "environments": _answer(_ENVIRONMENT, ["image"]),
    "datastores": _answer(_DATASTORE, ["datastoreType", "credentials"]),
    "models": _answer(
        {
            **_MODEL,
            "provisioningState": {
                "enum": ["Canceled", "Creating", "Deleting", "Failed", "Succeeded", "Updating"]
            },
        },
        [],
    ),
    "computes": _answer(
        {"computeType": {"enum": ["AmlCompute"]}, "properties": {"type": "object"}},
        ["computeType"],
    ),
    "account": _answer(
        {
            "publicNetworkAccess": {"enum": ["Enabled", "Disabled"]},
            "hbiWorkspace": {"type": "boolean"},
            "storageAccount": _ARM_ID,
            "encryption": _closed(
                ["status", "keyVaultProperties"],
                status={"enum": ["Enabled", "Disabled"]},
                identity={"type": "object"},
                keyVaultProperties=_closed(
                    ["keyVaultArmId", "keyIdentifier"],
                    keyVaultArmId=_ARM_ID,
                    keyIdentifier=_TEXT,
                    identityClientId={"type": "string"},
                ),
            ),
            "managedNetwork": {
                "type": "object",
                "properties": {
                    "isolationMode": {
                        "enum": ["Disabled", "AllowInternetOutbound", "AllowOnlyApprovedOutbound"]
                    }
                },
            },
        },
        [],
    ),
    "storage": _answer(
        {
            "publicNetworkAccess": {"enum": ["Enabled", "Disabled", "SecuredByPerimeter"]},
            "allowBlobPublicAccess": {"type": "boolean"},
            "encryption": {
                "type": "object",
                "required": ["keySource"],
                "properties": {
                    "keySource": {"enum": ["Microsoft.Storage", "Microsoft.Keyvault"]},
                    "keyvaultproperties": {
                        "type": "object",
                        "properties": {"keyname": _TEXT, "keyvaulturi": _TEXT},
                    },
                },
            },
        },
        [],
    ),
}
"""Answer by kind of resource. A job's status is open: ``Unknown`` ones are a test of ours."""
