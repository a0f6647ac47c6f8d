"""SageMaker Model Registry as a registry of model versions."""

from __future__ import annotations

from airflow_mlgov.registries.sagemaker.registry import SageMakerRegistry

__all__ = ["SageMakerRegistry"]
