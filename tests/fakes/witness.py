"""A small witness after C2SP tlog-witness v1 that answers over HTTP on this machine.

It follows the protocol's words, checks and persists in one step, and remembers in a file. It proves
nothing about a witness that somebody else runs: no TLS, no other operator, no other machine, no
other implementation of trees (it checks proofs with the code that makes them, which has its own
oracle), and its clock is this machine's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.merkle import verify_consistency

Answer = tuple[int, str, bytes]


def cosign(key: Ed25519PrivateKey, name: str, body: str, seconds: int) -> bytes:
    """Return a cosignature/v1 line over a checkpoint's body, written without our own code."""
    public = key.public_key().public_bytes_raw()
    key_id = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4]
    signature = key.sign(f"cosignature/v1\ntime {seconds}\n{body}".encode())
    encoded = base64.b64encode(key_id + seconds.to_bytes(8, "big") + signature).decode()
    return f"\u2014 {name} {encoded}\n".encode()


class Witness:
    """One witness; `start` and `stop` it.

    Attributes:
        vkey: The key as it publishes it.
        requests: Bodies that it was sent.
        lie: Set to a function of the honest answer to give another.
    """

    def __init__(self, folder: Path, logs: dict[str, bytes], name: str = "witness.example/w1"):
        self.name = name
        self.key = Ed25519PrivateKey.generate()
        self.requests: list[bytes] = []
        self.lie: Callable[[Answer], Answer] | None = None
        self._file = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"
        self._logs = logs
        self._lock = threading.Lock()
        typed = b"\x04" + self.key.public_key().public_bytes_raw()
        key_id = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4].hex()
        self.vkey = f"{name}+{key_id}+{base64.b64encode(typed).decode()}"

    def start(self) -> str:
        witness = self

        class Requests(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, kind, data = witness.answer(self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}/prefix"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: bytes) -> Answer:
        self.requests.append(body)
        honest = self._add_checkpoint(body) if path == "/prefix/add-checkpoint" else _said(404)
        return honest if self.lie is None else self.lie(honest)

    def _add_checkpoint(self, body: bytes) -> Answer:
        head, _, note = body.partition(b"\n\n")
        old_line, *proof = head.decode().split("\n")
        if not old_line.startswith("old ") or len(proof) > 63:
            return _said(400)
        old = int(old_line.removeprefix("old "))
        text, _, signatures = note.decode().rpartition("\n\n")
        text += "\n"
        origin, size, _ = text.split("\n")[:3]
        if origin not in self._logs:
            return _said(404)
        if not _is_signed(text, signatures, origin, self._logs[origin]):
            return _said(403)
        if old > int(size):
            return _said(400)
        with self._lock:  # what is compared is what is replaced
            return self._judge(text, old, [base64.b64decode(line) for line in proof])

    def _judge(self, text: str, old: int, proof: list[bytes]) -> Answer:
        origin, size, root = text.split("\n")[:3]
        seen = json.loads(self._file.read_text()) if self._file.exists() else {}
        latest, latest_root = seen.get(
            origin, [0, base64.b64encode(hashlib.sha256().digest()).decode()]
        )
        if old != latest:
            return 409, "text/x.tlog.size", f"{latest}\n".encode()
        if old == int(size) and root != latest_root:
            return _said(409)
        try:
            verify_consistency(
                old, int(size), proof, base64.b64decode(latest_root), base64.b64decode(root)
            )
        except LedgerIntegrityError:
            return _said(422)
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps({**seen, origin: [int(size), root]}))
        draft.replace(self._file)
        return 200, "text/plain", cosign(self.key, self.name, text, int(time.time()))


def _said(status: int) -> Answer:
    return status, "text/plain", b"no\n"


def _is_signed(text: str, signatures: str, origin: str, public: bytes) -> bool:
    for line in signatures.splitlines():
        _, name, encoded = line.split(" ")
        if name != origin:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(
                base64.b64decode(encoded)[4:], text.encode()
            )
        except InvalidSignature:
            continue
        return True
    return False
