"""Amazon SageMaker as a platform of jobs."""

from __future__ import annotations

from airflow_mlgov.platforms.sagemaker.platform import SageMakerPlatform
from airflow_mlgov.platforms.sagemaker.scoring import SageMakerScoring

__all__ = ["SageMakerPlatform", "SageMakerScoring"]
