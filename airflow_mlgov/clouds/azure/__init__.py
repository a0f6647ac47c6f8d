"""Azure: its resource manager and its blob storage, with the credentials of a connection."""

from __future__ import annotations

from airflow_mlgov.clouds.azure.arm import API_VERSION, Arm
from airflow_mlgov.clouds.azure.blobs import BlobStore
from airflow_mlgov.clouds.azure.rights import STORE_DATA_ACTIONS, missing_rights, storage_id
from airflow_mlgov.clouds.azure.session import AzureSession, Kinds

__all__ = [
    "API_VERSION",
    "STORE_DATA_ACTIONS",
    "Arm",
    "AzureSession",
    "BlobStore",
    "Kinds",
    "missing_rights",
    "storage_id",
]
