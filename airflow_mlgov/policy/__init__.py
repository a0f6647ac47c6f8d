"""Policy packs and inventory files, and the decisions that follow from them; pure functions."""

from __future__ import annotations
