"""Vertex AI of Google Cloud as a platform of jobs."""

from __future__ import annotations

from airflow_mlgov.platforms.vertex.platform import VertexPlatform

__all__ = ["VertexPlatform"]
