"""Vertex AI's Model Registry of Google Cloud."""

from __future__ import annotations

from airflow_mlgov.registries.vertex.registry import VertexRegistry

__all__ = ["VertexRegistry"]
