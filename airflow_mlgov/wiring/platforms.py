"""Opens the place where training runs."""

from __future__ import annotations

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.service.training_platform import Platform

PLATFORMS = ("local",)


def open_platform(name: str) -> Platform:
    """Return a platform by its name.

    Args:
        name: ``local``.

    Raises:
        ConfigurationError: There is no such platform; a retry does not help.
    """
    if name == "local":
        from airflow_mlgov.platforms.local import LocalPlatform

        return LocalPlatform()
    raise ConfigurationError(
        f"There is no training platform {name!r}.", remedy=f"There is: {', '.join(PLATFORMS)}."
    )
