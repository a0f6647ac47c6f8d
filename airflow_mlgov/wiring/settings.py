"""Section ``[mlgov]`` of Airflow's configuration, read when it is needed, never at import."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError

SECTION = "mlgov"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the rules stand and where the records go.

    Attributes:
        ledger_url: Store of the ledger; may hold a password, so it is never printed.
        evidence_url: Folder or bucket for evidence documents.
        inventory_path: Folder of inventory files.
        policy_path: Folder of policy packs.
        keys_dir: Folder of keys.
        seen_dir: Folder where this machine remembers the newest checkpoint of each log.
    """

    ledger_url: str
    evidence_url: str
    inventory_path: str
    policy_path: str
    keys_dir: str
    seen_dir: str


def settings() -> Settings:
    """Return the settings, from Airflow's own sources (file, environment, ``_cmd``, ``_secret``).

    Raises:
        ConfigurationError: One is missing; a retry does not help.
    """
    return Settings(**{name: setting(name) for name in Settings.__slots__})


def setting(name: str) -> str:
    """Return one setting.

    ``seen_dir`` is the only one with a default: ``airflow-mlgov/seen`` under ``$XDG_STATE_HOME``,
    which is ``~/.local/state`` if it is not set.

    Raises:
        ConfigurationError: It is missing or empty; a retry does not help.
    """
    value = optional_setting(name)
    if value is None and name == "seen_dir":
        value = _default_seen_dir()
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


def _default_seen_dir() -> str:
    # Not beside the ledger or the keys: a backup that is put back there must not bring with it
    # what was known when it was made.
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        home = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:  # a user without a home
        return ""
    return str(home / "airflow-mlgov" / "seen")
