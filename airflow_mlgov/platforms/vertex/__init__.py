"""Vertex AI of Google Cloud as a platform of jobs."""

from __future__ import annotations

from airflow_mlgov.platforms.vertex.platform import VertexPlatform
from airflow_mlgov.platforms.vertex.scoring import VertexScoring

__all__ = ["VertexPlatform", "VertexScoring"]
