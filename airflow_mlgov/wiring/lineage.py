"""Opens the targets that the file in ``[mlgov] lineage_targets_path`` names, and their shippers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.policy.lineage_targets_file import LineageTargetTerms, read_lineage_targets
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.service.outbox import LineageTarget
from airflow_mlgov.service.ship import Shipper
from airflow_mlgov.wiring.outbox import open_outbox
from airflow_mlgov.wiring.settings import optional_setting


def lineage_target_names() -> list[str]:
    """Return the names of the configured targets; nothing is opened.

    Raises:
        DocumentError: The file is malformed; a retry does not help.
    """
    return [each.name for each in _terms()]


def lineage_targets_meant(target: str | None) -> list[str]:
    """Return the name of one configured target, or of all if none is named.

    Raises:
        DocumentError: The file is malformed; a retry does not help.
        ConfigurationError: There is no such target, or none at all; a retry does not help.
    """
    known = lineage_target_names()
    if not known or (target and target not in known):
        raise ConfigurationError(
            f"There is no target {target!r}." if target else "There are no targets of lineage.",
            remedy=f"Name one of {', '.join(known)}."
            if known
            else "Set [mlgov] lineage_targets_path to the file that names them.",
        )
    return [target] if target else known


def open_targets() -> list[LineageTarget]:
    """Return the targets that are configured; empty without any.

    Raises:
        DocumentError: The file is malformed; a retry does not help.
        ConfigurationError: A variable that it names is not set, or what a target needs is not
            installed; a retry does not help.
    """
    return [_opened(each) for each in _terms()]


def open_shippers(say: Callable[[str], None]) -> list[Shipper]:
    """Return a shipper for each configured target; each has to run by itself.

    Args:
        say: Told what people should know, a sentence at a time.

    Raises:
        DocumentError: The targets' file is malformed; a retry does not help.
        ConfigurationError: A setting is missing or wrong; a retry does not help.
    """
    return [Shipper(open_outbox(), each, SystemClock(), say) for each in open_targets()]


def _terms() -> list[LineageTargetTerms]:
    file = optional_setting("lineage_targets_path")
    return [] if file is None else read_lineage_targets(file)


def _opened(terms: LineageTargetTerms) -> LineageTarget:
    if terms.kind == "marquez":
        from airflow_mlgov.lineage.marquez import MarquezClient
        from airflow_mlgov.targets.marquez import MarquezTarget

        token = _variable(terms, terms.token_env) if terms.token_env else ""
        client = MarquezClient(terms.url, f"Bearer {token}" if token else "")
        return MarquezTarget(terms.name, client)
    if terms.kind == "folder":
        from airflow_mlgov.targets.folder import FolderTarget

        return FolderTarget(terms.name, terms.url)
    from airflow_mlgov.targets.client import ClientTarget

    return ClientTarget(terms.name, _filled(terms, terms.transport))


def _filled(terms: LineageTargetTerms, value: Any) -> Any:
    """Return a value with each ``{env: NAME}`` replaced by that variable."""
    if isinstance(value, dict):
        if value.keys() == {"env"} and isinstance(value["env"], str):
            return _variable(terms, value["env"])
        return {key: _filled(terms, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(terms, inner) for inner in value]
    return value


def _variable(terms: LineageTargetTerms, name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigurationError(
            f"{terms.file}:{terms.line}: lineage target {terms.name} takes a secret from the "
            f"environment variable {name}, which is not set.",
            remedy="Set it for the process that ships lineage, and for no other.",
        )
    return value
