"""Where this deployment's pages are, as Airflow's configuration says."""

from __future__ import annotations

from airflow_mlgov.dossiers.site import Site


def open_site() -> Site:
    """Return the addresses under ``[api] base_url``; without it, paths on whatever host."""
    from airflow.sdk.configuration import conf

    return Site((conf.get("api", "base_url", fallback="") or "").rstrip("/"))
