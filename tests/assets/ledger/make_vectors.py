"""Writes the golden files of the ledger's wire formats, once.

Shares no code with airflow_mlgov: canonical JSON by the rfc8785 package, DSSE, the signed note and
the tree spelled out from their specifications. The files are kept for ever: a change of a format is
a new version beside them.

    python tests/assets/ledger/make_vectors.py
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import rfc8785
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

HERE = Path(__file__).parent
ORIGIN = "airflow-mlgov/00000000-0000-4000-8000-000000000000"
PAYLOAD_TYPE = "application/vnd.airflow-mlgov.entry.v1+json"


def key_of(role: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(
        hashlib.sha256(f"test key {role}".encode()).digest()
    )


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class P256Key:
    """Signs as RFC 6979 says, so that the files come out the same each time."""

    def __init__(self, role: str) -> None:
        seed = hashlib.sha256(f"test key {role}".encode()).digest()
        self.key = ec.derive_private_key(int.from_bytes(seed) % P256_ORDER, ec.SECP256R1())

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, message: bytes) -> bytes:
        signed = self.key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(signed)
        return encode_dss_signature(r, min(s, P256_ORDER - s))

    def vkey(self, name: str) -> str:
        typed = b64(bytes([2]) + self.public)
        return f"{name}+{sha(self.public)[:4].hex()}+{typed}"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return sha(b"\x00" + leaves[0])
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha(b"\x01" + mth(leaves[:k]) + mth(leaves[k:]))


def commitment(salt: bytes, value: object) -> str:
    return hashlib.sha256(b"\x02" + salt + rfc8785.dumps(value)).hexdigest()


def envelope(role: str, payload: dict[str, object]) -> bytes:
    key = key_of(role)
    return signed_by([(public(key), key.sign)], payload)


def signed_by(keys: list[tuple[bytes, Callable[[bytes], bytes]]], payload: object) -> bytes:
    body = rfc8785.dumps(payload)  # type: ignore[arg-type]
    pae = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(body)} ".encode() + body
    return rfc8785.dumps(
        {
            "payload": b64(body),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {"keyid": "sha256:" + sha(public).hex(), "sig": b64(sign(pae))}
                for public, sign in keys
            ],
        }
    )


def vkey(name: str, role: str) -> tuple[str, bytes]:
    typed = b"\x01" + public(key_of(role))
    key_hash = sha(name.encode() + b"\n" + typed)[:4]
    return f"{name}+{key_hash.hex()}+{b64(typed)}", key_hash


def entry_key(*parts: str) -> str:
    return "sha256:" + sha(rfc8785.dumps(list(parts))).hex()


def payload(kind: str, key: str, body: dict[str, object], **more: object) -> dict[str, object]:
    source = {"dag_id": "", "run_id": "", "task_id": "", "map_index": -1, "try_number": 0}
    value = {
        "v": 1,
        "origin": ORIGIN,
        "kind": kind,
        "key": key,
        "at": "2026-01-02T03:04:05.678Z",
        "model": "",
        "version": None,
        "body": body,
        "people": {},
        "texts": {},
        "source": source,
    }
    return {**value, **more}


def leaves() -> tuple[list[bytes], dict[str, dict[str, str]]]:
    salts = {name: sha(f"salt {name}".encode()) for name in ("voter", "comment")}
    voter = {"id": "7", "name": "Zo\u00eb \U0001f600"}
    comment = 'Gr\u00fc\u00dfe,\n\t"quoted" \\ \u2028 <b>'
    request = "sha256:" + "ab" * 32
    voted_key = entry_key(ORIGIN, "approval.voted", request, "7")
    source = {
        "dag_id": "retail_pd",
        "run_id": "manual__2026-01-02T03:04:05+00:00",
        "task_id": "gr%C3%BC%C3%9Fe.gate",
        "map_index": -1,
        "try_number": 2,
    }
    made = [
        envelope(
            "log", payload("genesis", entry_key("airflow-mlgov", "genesis"), {"origin": ORIGIN})
        ),
        envelope(
            "writer",
            payload(
                "data.validated",
                entry_key(ORIGIN, "data.validated", "run-1"),
                {
                    "dataset": "taiwan_credit",
                    "sha256": "sha256:" + "cd" * 32,
                    "rows": 30000,
                    "columns": 24,
                    "passed": True,
                    "evidence_sha256": "sha256:" + "ef" * 32,
                    "uri": "file:///data/caf\u00e9.csv",
                    "big": 2**53 - 1,
                    "small": -(2**53 - 1),
                    "none": None,
                    "list": [1, [2, []], {}],
                    "order": {"\U0001f600": 1, "\uff21": 2, "\r": 3, "1": 4, "\u0080": 5},
                },
                model="retail_pd",
            ),
        ),
        envelope(
            "attestor",
            payload(
                "approval.voted",
                voted_key,
                {"request_sha256": request, "choice": "approve"},
                model="retail_pd",
                version="sha256:" + "01" * 32,
                people={"voter": commitment(salts["voter"], voter)},
                texts={"comment": commitment(salts["comment"], comment)},
                source=source,
            ),
        ),
    ]
    disclosures = {
        "people.voter": {"salt": salts["voter"].hex(), "value": voter},
        "texts.comment": {"salt": salts["comment"].hex(), "value": comment},
    }
    return made, {voted_key: disclosures}


def rotated() -> list[bytes]:
    """Return what follows in the same log: two keys go over to P-256, and one of them writes."""
    leaves = []
    new = {"log": P256Key("p256 log"), "writer": P256Key("p256 writer")}
    for role, name in (("log", ORIGIN), ("writer", "airflow-mlgov-writer")):
        old = key_of(role)
        keyids = ["sha256:" + sha(key).hex() for key in (public(old), new[role].public)]
        body: dict[str, object] = {"role": role, "vkey": new[role].vkey(name)}
        said = payload("key.rotated", entry_key(ORIGIN, "key.rotated", role, *keyids), body)
        keys = [(public(old), old.sign), (new[role].public, new[role].sign)]
        leaves.append(signed_by(keys, said))
    body = {"policy_sha256": "sha256:" + "12" * 32}
    said = payload("policy.changed", entry_key(ORIGIN, "policy.changed", "1"), body)
    writer = new["writer"]
    return [*leaves, signed_by([(writer.public, writer.sign)], said)]


def write_rotated(before: list[bytes]) -> None:
    after, log = rotated(), P256Key("p256 log")
    every = [*before, *after]
    body = f"{ORIGIN}\n{len(every)}\n{b64(mth(every))}\n".encode()
    signature = b64(sha(log.public)[:4] + log.sign(body))
    (HERE / "rotated-v1.note").write_bytes(body + f"\n\u2014 {ORIGIN} {signature}\n".encode())
    for index, leaf in enumerate(after, len(before)):
        (HERE / f"rotated-v1-{index}.dsse").write_bytes(leaf)


def main() -> None:
    made, disclosures = leaves()
    log_vkey, key_hash = vkey(ORIGIN, "log")
    body = f"{ORIGIN}\n{len(made)}\n{b64(mth(made))}\n".encode()
    signature = b64(key_hash + key_of("log").sign(body))
    note = body + f"\n\u2014 {ORIGIN} {signature}\n".encode()
    trust = {
        "version": 1,
        "origin": ORIGIN,
        "log_keys": [log_vkey],
        "attestor_keys": [vkey("airflow-mlgov-attestor", "attestor")[0]],
        "writer_keys": [vkey("airflow-mlgov-writer", "writer")[0]],
        "witnesses": [],
    }
    for index, leaf in enumerate(made):
        (HERE / f"entry-v1-{index}.dsse").write_bytes(leaf)
    (HERE / "checkpoint-v1.note").write_bytes(note)
    peaks = [mth(made[:2]).hex(), mth(made[2:]).hex()]
    seen = {"note": note.decode(), "peaks": peaks, "v": 1}
    (HERE / "seen-v1.json").write_text(
        json.dumps(seen, ensure_ascii=False, separators=(",", ":")), "utf-8"
    )
    (HERE / "trust-v1.json").write_text(json.dumps(trust, indent=2) + "\n")
    (HERE / "disclosures-v1.json").write_text(json.dumps(disclosures, indent=2) + "\n")
    roots = {str(n): mth([bytes([i]) * i for i in range(n)]).hex() for n in range(34)}
    write_rotated(made)
    (HERE / "roots.json").write_text(json.dumps(roots, indent=2) + "\n")


if __name__ == "__main__":
    main()
