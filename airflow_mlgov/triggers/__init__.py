"""Airflow triggers, one public class a file."""

from __future__ import annotations
