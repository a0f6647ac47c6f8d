"""What we add to Airflow's api-server."""

from __future__ import annotations
