"""Google Cloud: clients from an Airflow connection, its errors, and folders in Cloud Storage."""

from __future__ import annotations
