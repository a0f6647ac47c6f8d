"""What Vertex AI calls models, versions and files, and what it takes as an alias."""

from __future__ import annotations

import hashlib
import re

from airflow_mlgov.errors import ArtefactError, ConfigurationError
from airflow_mlgov.records.digest import Digest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_MODEL_ID = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
_VERSION = re.compile(r"[1-9][0-9]{0,18}")
_FOLDER = re.compile(r"(?P<digest>[0-9a-f]{64})/model")


def model_id(name: str) -> str:
    """Return the id of a registered model: its name, or where that is no id one made of it.

    Raises:
        ConfigurationError: It is no name of a registered model; a retry does not help.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"Registered model name {name!r} is not one that every registry can hold.",
            remedy="Use letters, digits, '_', '-' and '.' in the inventory's 'registered_name'.",
        )
    if _MODEL_ID.fullmatch(name):
        return name
    # Two names must not become one id: "PD.v2" and "pd-v2" are two models.
    readable = re.sub(r"[^a-z0-9_-]", "-", name.lower())[:48].strip("-_")
    readable = readable if readable[:1].isalpha() else f"m-{readable}"
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def check_alias(alias: str) -> str:
    """Return an alias that Vertex AI takes.

    Raises:
        ConfigurationError: It takes none like this; a retry does not help.
    """
    if not _ALIAS.fullmatch(alias):
        raise ConfigurationError(
            f"Vertex AI takes no alias {alias!r}.",
            remedy="Use 2 to 128 letters, digits and '-', a lower-case letter first and a "
            "lower-case letter or a digit last.",
        )
    return alias


def is_version(version: str) -> bool:
    """Return whether this is a number of Vertex AI's, and no alias."""
    return bool(_VERSION.fullmatch(version))


def model_folder(store: str, ident: str, manifest: Digest) -> str:
    """Return the folder of a version's files, which its manifest names."""
    return f"{store}/{ident}/{manifest.hex}/model"


def manifest_in(store: str, ident: str, folder: str) -> Digest | None:
    """Return the digest in a folder of `model_folder`; None if it is none of these."""
    inside = folder.rstrip("/").removeprefix(f"{store}/{ident}/")
    match = _FOLDER.fullmatch(inside)
    try:
        return Digest(match["digest"]) if match else None
    except ArtefactError:
        return None
