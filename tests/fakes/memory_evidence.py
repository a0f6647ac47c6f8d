"""Evidence in memory. It cannot prove durability or atomicity: tests of `stores.evidence` do."""

from __future__ import annotations

from airflow_mlgov.errors import EvidenceError
from airflow_mlgov.records.digest import Digest


class MemoryEvidence:
    def __init__(self) -> None:
        self.documents: dict[Digest, bytes] = {}

    def put(self, document: bytes) -> Digest:
        digest = Digest.of(document)
        self.documents[digest] = document
        return digest

    def get(self, digest: Digest) -> bytes:
        if digest not in self.documents:
            raise EvidenceError(f"No evidence document {digest}.")
        if Digest.of(self.documents[digest]) != digest:
            raise EvidenceError(f"Evidence document {digest} was altered.")
        return self.documents[digest]
