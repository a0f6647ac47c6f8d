"""Airflow sensors, one public class a file."""

from __future__ import annotations
