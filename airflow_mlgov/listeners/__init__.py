"""What is recorded about Airflow; never refuses."""

from __future__ import annotations
