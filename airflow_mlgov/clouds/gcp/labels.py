"""Labels of Google Cloud: what fits into one, and digests that do."""

from __future__ import annotations

import base64
import re

from airflow_mlgov.errors import ArtefactError, ConfigurationError
from airflow_mlgov.policy.platforms_file import PlatformTerms, RegistryTerms
from airflow_mlgov.records.digest import Digest

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_MOST = 56


def check_tags(terms: PlatformTerms | RegistryTerms) -> None:
    """Refuse tags that cannot be labels; they are not bent to fit, since bills are read by them.

    Raises:
        ConfigurationError: One does not fit; a retry does not help.
    """
    wrong = [
        f"{name}: {value}"
        for name, value in terms.tags.items()
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name.startswith("mlgov-")
    ]
    if wrong or len(terms.tags) > _MOST:
        raise ConfigurationError(
            f"{terms.file}:{terms.line}: tags of {terms.name} cannot be labels of Google Cloud: "
            f"{', '.join(wrong) or f'there are more than {_MOST}'}.",
            remedy="Use lower-case letters, digits, '_' and '-', at most 63; a name begins with a "
            "letter, and not with mlgov-.",
        )


def digest_label(digest: Digest) -> str:
    """Return a whole digest as a label's value: 52 characters of base32."""
    return base64.b32encode(bytes.fromhex(digest.hex)).decode().rstrip("=").lower()


def label_digest(value: str | None) -> Digest | None:
    """Return the digest that `digest_label` wrote; None if it is none."""
    try:
        return Digest(base64.b32decode(f"{value or ''}====".upper()).hex())
    except (ValueError, ArtefactError):
        return None
