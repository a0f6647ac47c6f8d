"""Azure Machine Learning as a registry of model versions."""

from __future__ import annotations

from airflow_mlgov.registries.azureml.registry import AzureMlRegistry

__all__ = ["AzureMlRegistry"]
