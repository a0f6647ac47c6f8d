"""MLflow as a registry of model versions."""

from __future__ import annotations

from airflow_mlgov.registries.mlflow.registry import MANIFEST_TAG, MlflowRegistry

__all__ = ["MANIFEST_TAG", "MlflowRegistry"]
