"""moto's AWS KMS on a local port, with the one thing put right in which it differs from AWS.

AWS signs a message of type DIGEST as it is; moto hashes it once more, so that its signatures fit
nothing. It cannot prove: latency, rights (moto lets everybody do everything), disabled keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import moto.kms.utils
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.server import ThreadedMotoServer

SETTINGS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def _sign(self: Any, message: bytes, signing_algorithm: str) -> bytes:
    assert signing_algorithm == "ECDSA_SHA_256"
    return bytes(self.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256()))))


@contextmanager
def kms_server(monkeypatch: Any) -> Iterator[Any]:
    """Run a KMS that this process's SDK talks to; yield a client of it."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(moto.kms.utils.ECDSAPrivateKey, "sign", _sign)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    try:
        yield boto3.client("kms")
    finally:
        server.stop()


def make_key(kms: Any, spec: str = "ECC_NIST_P256", usage: str = "SIGN_VERIFY") -> str:
    """Make a key and return its URI."""
    return f"awskms:{kms.create_key(KeySpec=spec, KeyUsage=usage)['KeyMetadata']['KeyId']}"
