"""A pack and an inventory file that are right, to break in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def _read(place: str) -> str:
    return (ROOT / "tests" / "assets" / "policy" / place).read_text("utf-8")


class Breakable:
    """Text whose single changes are where a test says they are."""

    def __init__(self, text: str) -> None:
        self.text = text

    def broken(self, old: str, new: str) -> tuple[bytes, int]:
        """Return the text with one change, and the line (from 1) on which the change begins."""
        assert self.text.count(old) == 1, f"{old!r} stands {self.text.count(old)} times"
        line = self.text[: self.text.index(old)].count("\n") + 1
        return self.text.replace(old, new).encode("utf-8"), line


@pytest.fixture
def pack_text() -> Breakable:
    return Breakable(_read("policy-pack-1.yaml"))


@pytest.fixture
def entry_text() -> Breakable:
    return Breakable(_read("inventory-1.yaml"))
