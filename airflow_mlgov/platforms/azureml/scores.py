"""What a container says about the scores that it wrote, held against what came from the store."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from airflow_mlgov.errors import ArtefactError
from airflow_mlgov.service.artefacts import fingerprint_file
from airflow_mlgov.service.container_scoring import ACCOUNT_FILE, scores_name

_REMEDY = "Look who can write there; then start a new run."


def check_scores(folder: Path, data: Collection[str], url: str) -> None:
    """Refuse scores that are not those, all of those and only those that a container accounts for.

    Args:
        folder: What was copied from the store; the account is taken out of it.
        data: Names of the files that were to be scored.
        url: Where it was copied from, for errors.

    Raises:
        ArtefactError: Scores or the account are missing, different or too many; a retry does not
            help.
    """
    account = _account(folder / ACCOUNT_FILE, url)
    wanted = {scores_name(name): name for name in data}
    if sorted(str(each.get("data")) for each in account) != sorted(data):
        raise ArtefactError(
            f"{url}/{ACCOUNT_FILE} is not about {', '.join(sorted(data))}, each once.",
            remedy=_REMEDY,
        )
    (folder / ACCOUNT_FILE).unlink()
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    for names, problem in ((wanted.keys() - found, "lacks"), (found - wanted.keys(), "also holds")):
        if names:
            listed = ", ".join(repr(name) for name in sorted(names))
            raise ArtefactError(f"{url} {problem} {listed}.", remedy=_REMEDY)
    said = {str(each["data"]): each for each in account}
    for scores, name in sorted(wanted.items()):
        _refuse_other(folder / scores, said[name], url)


def _account(file: Path, url: str) -> list[Mapping[str, Any]]:
    try:
        account = json.loads(file.read_bytes())
    except OSError as error:
        raise ArtefactError(
            f"{url} lacks {ACCOUNT_FILE}: the container has not said what it wrote.",
            remedy=_REMEDY,
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{url}/{ACCOUNT_FILE} is no JSON: {error}", remedy=_REMEDY) from error
    if not isinstance(account, list) or not all(isinstance(each, dict) for each in account):
        raise ArtefactError(f"{url}/{ACCOUNT_FILE} is no list of files.", remedy=_REMEDY)
    return account


def _refuse_other(file: Path, said: Mapping[str, Any], url: str) -> None:
    sha256, size_bytes = fingerprint_file(file)
    wanted = (said.get("scores"), said.get("scores_sha256"), said.get("scores_size"))
    if wanted != (file.name, str(sha256), size_bytes):
        raise ArtefactError(
            f"{url}/{file.name} is {sha256} of {size_bytes} bytes, and not what the container says "
            f"in {ACCOUNT_FILE} that it wrote.",
            remedy=_REMEDY,
        )
