"""SHA-256 digests as values."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from airflow_mlgov.errors import ArtefactError

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A SHA-256 digest.

    Attributes:
        hex: 64 lower-case hexadecimal characters.
    """

    hex: str

    def __post_init__(self) -> None:
        if not isinstance(self.hex, str) or not _HEX.fullmatch(self.hex):
            raise ArtefactError(
                f"{self.hex!r} is not a SHA-256 digest of 64 hexadecimal characters."
            )

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @property
    def short(self) -> str:
        """The first 12 characters, for people; never compare these."""
        return self.hex[:12]

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the digest of bytes."""
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Return the digest that ``sha256:<hex>`` or bare hex names.

        Raises:
            ArtefactError: It is neither, or no text at all; a retry does not help.
        """
        return cls(text.removeprefix("sha256:") if isinstance(text, str) else text)
