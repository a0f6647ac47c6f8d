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
from pathlib import Path

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).parent
ORIGIN = "airflow-mlgov/00000000-0000-4000-8000-000000000000"
PAYLOAD_TYPE = "application/vnd.airflow-mlgov.entry.v1+json"


def key_of(role: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(
        hashlib.sha256(f"test key {role}".encode()).digest()
    )


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


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
    body = rfc8785.dumps(payload)
    pae = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(body)} ".encode() + body
    key = key_of(role)
    return rfc8785.dumps(
        {
            "payload": b64(body),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {"keyid": "sha256:" + sha(public(key)).hex(), "sig": b64(key.sign(pae))}
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
    (HERE / "roots.json").write_text(json.dumps(roots, indent=2) + "\n")


if __name__ == "__main__":
    main()
