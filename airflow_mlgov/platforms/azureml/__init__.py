"""Azure Machine Learning as a platform of jobs."""

from __future__ import annotations

from airflow_mlgov.platforms.azureml.platform import AzureMlPlatform
from airflow_mlgov.platforms.azureml.scoring import AzureMlScoring

__all__ = ["AzureMlPlatform", "AzureMlScoring"]
