"""What Airflow calls us for besides tasks; everything is built when Airflow asks for it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin


class MlgovPlugin(AirflowPlugin):
    """Keep forms true, attest votes, refuse or note changes by hand; stop and resume models."""

    name = "mlgov"

    @cached_property
    def listeners(self) -> list[Any]:  # type: ignore[override]
        """What notes manual changes, and what notes the model that a task is about."""
        from airflow_mlgov.listeners import capture, manual_changes

        return [manual_changes, capture]

    @cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """The app with the pages, and through which models are stopped, in the api-server only."""
        from airflow_mlgov.api.app import build_app

        return [{"name": "mlgov", "app": build_app(), "url_prefix": "/mlgov"}]

    @cached_property
    def external_views(self) -> list[Any]:  # type: ignore[override]
        """The way to the pages, beside Airflow's own Required Actions."""
        from airflow_mlgov.wiring import open_site

        # At the top level Airflow 3.3 makes a button of it, which leads nowhere.
        place = {"destination": "nav", "category": "browse"}
        return [{"name": "Model governance", "href": open_site().home, **place}]

    @cached_property
    def fastapi_root_middlewares(self) -> list[Any]:  # type: ignore[override]
        """What stands before Airflow's own routes, in the api-server only."""
        from airflow_mlgov.api.form_refresh import FormRefreshMiddleware
        from airflow_mlgov.api.vote_attestation import VoteAttestationMiddleware
        from airflow_mlgov.enforcement.manual_changes import ManualChangeMiddleware

        return [
            {"name": "mlgov form refresh", "middleware": FormRefreshMiddleware},
            {"name": "mlgov vote attestation", "middleware": VoteAttestationMiddleware},
            {"name": "mlgov manual changes", "middleware": ManualChangeMiddleware},
        ]
