"""What is refused when a DAG is parsed."""

from __future__ import annotations
