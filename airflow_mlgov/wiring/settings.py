"""Section ``[mlgov]`` of Airflow's configuration, read when it is needed, never at import."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError

SECTION = "mlgov"
# Not beside the ledger or the keys: a backup that is put back there must not bring with it what was
# known when it was made, and a disk that is full there must not be full here.
_OF_THIS_MACHINE = {"seen_dir": "seen", "lineage_spool_dir": "lineage-spool"}


def setting(name: str) -> str:
    """Return one setting, from Airflow's own sources (file, environment, ``_cmd``, ``_secret``).

    ``seen_dir`` and ``lineage_spool_dir`` have defaults: ``airflow-mlgov/seen`` and
    ``airflow-mlgov/lineage-spool`` under ``$XDG_STATE_HOME``, which is ``~/.local/state`` if it is
    not set.

    Raises:
        ConfigurationError: It is missing or empty; a retry does not help.
    """
    value = optional_setting(name)
    if value is None and name in _OF_THIS_MACHINE:
        value = _state_folder(_OF_THIS_MACHINE[name])
    if not value:
        raise ConfigurationError(
            f"Setting [{SECTION}] {name} is missing.",
            remedy=f"Set it in airflow.cfg or as AIRFLOW__{SECTION.upper()}__{name.upper()}.",
        )
    return value


def optional_setting(name: str) -> str | None:
    """Return one setting; None if it is missing or empty."""
    from airflow.sdk.configuration import conf

    value = conf.get(SECTION, name, fallback=None)
    return (value.strip() or None) if value else None


def _state_folder(name: str) -> str:
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        home = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:  # a user without a home
        return ""
    return str(home / "airflow-mlgov" / name)
