"""Records turned into documents for people."""

from __future__ import annotations
