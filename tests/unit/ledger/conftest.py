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

from airflow_mlgov.ledger.bundle import BundleHeader, write_bundle
from airflow_mlgov.ledger.bundle_check import check_bundle
from airflow_mlgov.ledger.checkpoint import Vkey, sign_checkpoint
from airflow_mlgov.ledger.entry import Entry, decode_leaf, encode_leaf, entry_key
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash
from airflow_mlgov.ledger.proof import TlogProof
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest, ManifestFile
from airflow_mlgov.records.people import Disclosure

MANIFEST = Manifest((ManifestFile("scorecard.json", 3, Digest.of(b"{}\n")),))
VERSION = Digest.of(MANIFEST.canonical())
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


@dataclass
class Bundled:
    """A log with two models, and the bundle of one of them; tests break one or the other."""

    golden: Golden
    leaves: list[bytes]
    files: dict[str, bytes]
    header: BundleHeader

    @property
    def now(self) -> datetime:
        return datetime(2026, 1, 5, tzinfo=UTC)

    def data(self) -> bytes:
        return write_bundle(self.header, self.files)

    def check(self, **more: Any):
        return check_bundle(self.data(), self.golden.trust, now=self.now, **more)

    def count(self, size: int, model: str = "retail_pd") -> dict[str, Any]:
        listed = [
            [index, hashlib.sha256(b"\x00" + leaf).hexdigest()]
            for index, leaf in enumerate(self.leaves[:size])
            if json.loads(decode_leaf(leaf)[1].payload)["model"] == model
        ]
        text = json.dumps(listed, separators=(",", ":")).encode()
        sha256 = f"sha256:{hashlib.sha256(text).hexdigest()}"
        return {"size": size, "count": len(listed), "leaves_sha256": sha256}

    def append_count(self, **changes: Any) -> None:
        body = {**self.count(len(self.leaves)), **changes}
        self.leaves.append(self.golden.leaf("log", "model.indexed", version=None, body=body))

    def seal(
        self,
        leave_out: set[int] = frozenset(),
        *,
        rotations: set[int] = frozenset(),
        role: str = "log",
    ) -> None:
        """Put the log under a checkpoint, and of its entries the model's into the bundle."""
        note = self.golden.sign(self.leaves, role=role)
        tree = MerkleTree(leaf_hash(leaf) for leaf in self.leaves)
        kept = {n: d for n, d in self.files.items() if n.split("/")[0] in {"evidence", "model"}}
        self.files = {**kept, "checkpoint": note}
        for index, leaf in enumerate(self.leaves):
            of_model = json.loads(decode_leaf(leaf)[1].payload)["model"] == "retail_pd"
            if index in leave_out or not (of_model or index in {0, *rotations}):
                continue
            proof = TlogProof(index, tuple(tree.inclusion_proof(index)), note)
            self.files[f"entries/{index}.dsse"] = leaf
            self.files[f"proofs/{index}.tlog-proof"] = proof.as_bytes()
        self.header = replace(self.header, size=tree.size, root_hash=tree.root().hex())


@pytest.fixture
def bundled(golden: Golden) -> Bundled:
    """A sound bundle of ``retail_pd``: indices 0, 1, 3, 4 and 5 of a log of six entries."""
    opened = {"id": "7", "name": "Ada"}
    disclosure = Disclosure(b"\x05" * 32, opened)
    document = b'{"trained": true}'
    registered = {"registry": "folder", "version": "1", "variant": "candidate"}
    trained = {"evidence_sha256": str(Digest.of(document)), "inputs": []}
    leaves = [
        golden.leaves[0],
        golden.leaf(
            "writer",
            "model.trained",
            version=VERSION,
            body=trained,
            people={"developer": disclosure.commitment},
        ),
        golden.leaf("writer", model="other_model"),
        golden.leaf("writer", "model.registered", version=VERSION, body=registered),
        golden.leaf("writer", version=VERSION),
    ]
    header = BundleHeader(golden.origin, "retail_pd", None, 0, "")
    made = Bundled(golden, leaves, {}, header)
    made.append_count()
    made.files[f"evidence/{Digest.of(document).hex}"] = document
    made.files[f"model/{VERSION.hex}.json"] = MANIFEST.canonical()
    made.seal()
    made.files["disclosures/1.json"] = canonical_bytes(
        {"people.developer": {"salt": "05" * 32, "value": opened}}
    )
    return made
