"""The `airflow mlgov` commands."""

from __future__ import annotations
