"""Amazon SageMaker as a platform of jobs."""

from __future__ import annotations

from airflow_mlgov.platforms.sagemaker.platform import SageMakerPlatform

__all__ = ["SageMakerPlatform"]
