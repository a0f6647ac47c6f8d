"""What a ledger is: entries, Merkle tree, proofs, checkpoints, and their verification; pure."""

from __future__ import annotations
