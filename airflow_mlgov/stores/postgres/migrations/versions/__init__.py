"""The tables of the ledger, change by change."""

from __future__ import annotations
