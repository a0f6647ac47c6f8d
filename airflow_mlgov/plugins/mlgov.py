"""What Airflow calls us for besides tasks; everything is built when Airflow asks for it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin


class MlgovPlugin(AirflowPlugin):
    """Keep approval forms true, and note manual changes of governed tasks."""

    name = "mlgov"

    @cached_property
    def listeners(self) -> list[Any]:  # type: ignore[override]
        """The module that notes manual changes."""
        from airflow_mlgov.listeners import manual_changes

        return [manual_changes]

    @cached_property
    def fastapi_root_middlewares(self) -> list[Any]:  # type: ignore[override]
        """The middleware that refreshes forms, in the api-server only."""
        from airflow_mlgov.api.form_refresh import FormRefreshMiddleware

        return [{"name": "mlgov form refresh", "middleware": FormRefreshMiddleware}]
