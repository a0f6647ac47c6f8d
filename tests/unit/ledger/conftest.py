"""The golden files, and leaves signed with their keys."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_mlgov.ledger.checkpoint import Vkey, sign_checkpoint
from airflow_mlgov.ledger.entry import Entry, encode_leaf, entry_key
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Disclosure

ASSETS = Path(__file__).parents[2] / "assets" / "ledger"


@dataclass
class Golden:
    origin: str
    leaves: list[bytes]
    note: bytes
    trust: TrustRoot
    trust_bytes: bytes
    disclosures: dict[str, dict[str, Disclosure]]

    def disclose(self, key: str) -> dict[str, Disclosure]:
        return self.disclosures.get(key, {})

    def key(self, role: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(
            hashlib.sha256(f"test key {role}".encode()).digest()
        )

    def public(self, role: str) -> bytes:
        return self.key(role).public_key().public_bytes_raw()

    def leaf(self, role: str, kind: str = "model.scored", **changes: Any) -> bytes:
        entry = Entry(
            origin=self.origin,
            kind=kind,
            key=entry_key(self.origin, kind, str(changes)),
            at=datetime(2026, 1, 2, tzinfo=UTC),
            model="retail_pd",
            version=Digest("02" * 32),
            body={"request_sha256": "sha256:" + "0" * 64, "target": "production"},
        )
        return encode_leaf(replace(entry, **changes), self.public(role), self.key(role).sign)

    def sign(self, leaves: list[bytes], *, role: str = "log", origin: str | None = None) -> bytes:
        tree = MerkleTree(leaf_hash(leaf) for leaf in leaves)
        origin = origin or self.origin
        return sign_checkpoint(
            origin, tree.size, tree.root(), Vkey(origin, self.public(role)), self.key(role).sign
        )


@pytest.fixture
def golden() -> Golden:
    trust = (ASSETS / "trust-v1.json").read_bytes()
    disclosures = json.loads((ASSETS / "disclosures-v1.json").read_text())
    return Golden(
        origin="airflow-mlgov/00000000-0000-4000-8000-000000000000",
        leaves=[(ASSETS / f"entry-v1-{index}.dsse").read_bytes() for index in range(3)],
        note=(ASSETS / "checkpoint-v1.note").read_bytes(),
        trust=TrustRoot.parse(trust),
        trust_bytes=trust,
        disclosures={
            key: {
                name: Disclosure(bytes.fromhex(d["salt"]), d["value"]) for name, d in fields.items()
            }
            for key, fields in disclosures.items()
        },
    )
