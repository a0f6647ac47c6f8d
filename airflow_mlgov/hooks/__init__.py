"""Airflow connection types."""

from __future__ import annotations
