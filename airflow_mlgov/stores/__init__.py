"""What we keep: the ledger, and evidence documents by digest."""

from __future__ import annotations
