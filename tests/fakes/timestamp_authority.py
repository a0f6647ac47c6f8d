"""A time-stamp authority: `openssl ts` with a CA of its own, behind a small HTTP server.

The time-stamps are real. What it cannot prove: that another authority sends what ours does (other
certificates, policies, DER), anything about TLS, and that its clock is anybody else's.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CONFIG = """
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[stamps]
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[mixed]
extendedKeyUsage = critical, timeStamping, serverAuth
[lax]
extendedKeyUsage = timeStamping
[none]
keyUsage = critical, digitalSignature
[tsa]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/{signer}.pem
signer_key = {folder}/{signer}.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
ess_cert_id_alg = sha256
{more}
"""


class Authority:
    """One authority; `start` and `stop` it.

    Attributes:
        root: PEM file of its CA.
        signer: PEM file of the certificate that signs.
        lie: Set to a function of the query that returns status, content type and body.
    """

    def __init__(self, folder: Path, *, usage: str = "stamps", key: str = "rsa:2048") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.root, self.signer = folder / "root.pem", folder / "tsa.pem"
        self.lie: Callable[[bytes], tuple[int, str, bytes]] | None = None
        self.location = ""
        (folder / "serial").write_text("01\n")
        self._configure()
        ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        self._run(
            *("req", "-x509", *ec, "-nodes", "-keyout", "root.key", "-out", "root.pem"),
            *("-subj", "/CN=Test root", "-days", "30", "-config", "c.cnf", "-extensions", "root"),
        )
        newkey = ec if key == "ec" else ("-newkey", key)
        self._run(
            *("req", *newkey, "-nodes", "-keyout", "tsa.key", "-out", "tsa.csr"),
            *("-subj", "/CN=Test authority", "-config", "c.cnf"),
        )
        self._run(
            *("x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key"),
            *("-CAcreateserial", "-out", "tsa.pem", "-days", "30", "-extfile", "c.cnf"),
            *("-extensions", usage),
        )

    def _configure(self, more: str = "") -> None:
        text = _CONFIG.format(folder=self.folder, signer="tsa", more=more)
        (self.folder / "c.cnf").write_text(text)

    def send_root_too(self) -> None:
        """Send two certificates, which openssl does not sort as DER wants."""
        self._configure(f"certs = {self.root}")

    def stamp(self, query: bytes) -> bytes:
        """Return the response to a query."""
        (self.folder / "q.tsq").write_bytes(query)
        self._run(
            *("ts", "-reply", "-config", "c.cnf", "-section", "tsa"),
            *("-queryfile", "q.tsq", "-out", "r.tsr"),
        )
        return (self.folder / "r.tsr").read_bytes()

    def stamp_data(self, data: bytes, *options: str) -> bytes:
        """Return the response over data, as if it had been asked for it."""
        (self.folder / "data").write_bytes(data)
        self._run(
            "ts", "-query", "-data", "data", "-cert", "-out", "d.tsq", *(options or ("-sha256",))
        )
        return self.stamp((self.folder / "d.tsq").read_bytes())

    def sign_anyway(self, response: bytes) -> bytes:
        """Sign what another authority's response says, which `openssl ts` may refuse to."""
        (self.folder / "o.tsr").write_bytes(response)
        self._run("ts", "-reply", "-in", "o.tsr", "-token_out", "-out", "token.der")
        self._run(
            *("cms", "-verify", "-noverify", "-inform", "DER", "-in", "token.der"),
            *("-out", "info.der"),
        )
        self._run(
            *("cms", "-sign", "-binary", "-nodetach", "-in", "info.der", "-nosmimecap"),
            *("-econtent_type", "1.2.840.113549.1.9.16.1.4", "-md", "sha256"),
            *("-signer", "tsa.pem", "-inkey", "tsa.key", "-outform", "DER", "-out", "new.der"),
        )
        body = b"\x30\x03\x02\x01\x00" + (self.folder / "new.der").read_bytes()
        return b"\x30\x82" + len(body).to_bytes(2, "big") + body

    def start(self) -> str:
        authority = self

        class Requests(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/timestamp-query"
                honest = (200, "application/timestamp-reply")
                if authority.lie is None:
                    status, kind, data = *honest, authority.stamp(query)
                else:
                    status, kind, data = authority.lie(query)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                if authority.location:
                    self.send_header("Location", authority.location)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _run(self, *words: str) -> None:
        ended = subprocess.run(
            ["openssl", *words], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
