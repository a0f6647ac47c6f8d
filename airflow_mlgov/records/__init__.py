"""What is true: frozen values without I/O, and how they are written down."""

from __future__ import annotations
