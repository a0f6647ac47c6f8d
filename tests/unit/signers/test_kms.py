"""Keys in a KMS: moto's, over HTTP, and a server that fails in every way that AWS does."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from airflow_mlgov.errors import ConfigurationError, LedgerUnavailableError
from airflow_mlgov.ledger.bundle_check import check_bundle
from airflow_mlgov.ledger.signatures import Algorithm, algorithm_of, check_signature
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.bundle import make_bundle
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.kms import KmsSigner, open_kms_signer, refuse_airflow
from airflow_mlgov.stores.sqlite import SqliteStore

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def load_fake(name: str) -> Any:
    path = Path(__file__).parents[2] / "fakes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


FAKE = load_fake("kms_server")
made = FAKE.make_key


def key_of(uri: str) -> str:
    return uri.partition(":")[2]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in FAKE.SETTINGS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture(scope="module")
def kms() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch, FAKE.kms_server(patch) as client:
        yield client


def test_a_key_that_never_leaves_the_kms_signs(kms: Any) -> None:
    uri = made(kms)
    signer = open_kms_signer(uri, KeyRole.LOG)
    assert signer.public_key == kms.get_public_key(KeyId=key_of(uri))["PublicKey"]
    assert algorithm_of(signer.public_key) is Algorithm.ECDSA_P256
    assert (signer.role, signer.name) == (KeyRole.LOG, "airflow-mlgov-log")
    public = serialization.load_der_public_key(signer.public_key)
    for number in range(20):  # about half of what a KMS returns has s in the upper half
        signature = signer.sign(b"%d" % number)
        check_signature(signer.public_key, signature, b"%d" % number)
        public.verify(signature, b"%d" % number, ec.ECDSA(hashes.SHA256()))  # type: ignore[union-attr, call-arg]
        assert decode_dss_signature(signature)[1] <= P256_ORDER // 2


def test_the_public_key_is_fetched_once(kms: Any) -> None:
    signer = open_kms_signer(made(kms), KeyRole.LOG)
    asked: list[str] = []
    signer._key.client.meta.events.register(  # type: ignore[attr-defined]
        "before-call.kms.*", lambda model, **_: asked.append(model.name)
    )
    signer.sign(b"a")
    signer.sign(b"b")
    assert (asked, len(signer.public_key)) == (["Sign", "Sign"], 91)


def test_a_whole_ledger_with_all_keys_in_the_kms(kms: Any, tmp_path: Path) -> None:
    signers = {role: open_kms_signer(made(kms), role) for role in KeyRole}
    ledger = Ledger(SqliteStore(tmp_path / "ledger.db"), signers)
    drafts = [
        EntryDraft("state.changed_by_hand", "m", None, {"task": "t", "state": "s"}, ("1",)),
        EntryDraft("policy.changed", "", None, {"policy_sha256": "sha256:" + "0" * 64}, ("1",)),
    ]
    for role, draft in zip((KeyRole.ATTESTOR, KeyRole.WRITER), drafts, strict=True):
        ledger.seal(ledger.append(draft, role=role))
    assert [e.signed_by for e in ledger.view().select()] == ["log", "attestor", "writer"]
    assert ledger.verify().is_fine
    trust = type(ledger.trust_root()).parse(ledger.trust_root().as_bytes())
    clock = type("Clock", (), {"now": lambda self: datetime.now(UTC)})()
    gov = Governance(ledger=ledger, evidence=None, inventory={}, packs={}, clock=clock)  # type: ignore[arg-type]
    bundle = make_bundle(gov, "m")
    report = check_bundle(bundle.data, trust, now=datetime.now(UTC))
    assert report.findings == ()


def test_an_alias_that_was_moved_signs_nothing(kms: Any) -> None:
    kms.create_alias(AliasName="alias/log", TargetKeyId=key_of(made(kms)))
    signer = open_kms_signer("awskms:alias/log", KeyRole.LOG)
    signer.sign(b"m")
    kms.update_alias(AliasName="alias/log", TargetKeyId=key_of(made(kms)))
    with pytest.raises(ConfigurationError, match="another key"):
        signer.sign(b"m")


@pytest.mark.parametrize("spec", ["ECC_NIST_P384", "RSA_2048", "ECC_SECG_P256K1"])
def test_a_key_of_another_kind_is_refused(kms: Any, spec: str) -> None:
    with pytest.raises(ConfigurationError, match=r"does not know|cannot be used") as caught:
        open_kms_signer(made(kms, spec), KeyRole.LOG)
    assert "ECC_NIST_P256" in caught.value.remedy


def test_a_key_that_encrypts_is_refused(kms: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        open_kms_signer(made(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"), KeyRole.LOG)


def test_an_unknown_key_is_refused(kms: Any) -> None:
    with pytest.raises(ConfigurationError, match="NotFoundException"):
        open_kms_signer("awskms:00000000-0000-0000-0000-000000000000", KeyRole.LOG)


class Failing:
    """Answers every call to KMS with one error, as the service's own API reference words it."""

    def __init__(self) -> None:
        self.status, self.code = 400, ""
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.dumps({"__type": outer.code, "message": "said the service"}).encode()
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("x-amzn-ErrorType", outer.code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def failing(kms: Any, aws: pytest.MonkeyPatch) -> Iterator[tuple[Failing, KmsSigner]]:
    server, good = Failing(), open_kms_signer(made(kms), KeyRole.LOG)
    aws.setenv("AWS_ENDPOINT_URL", server.url)
    good._key.client = boto3.client("kms")  # type: ignore[attr-defined]
    try:
        yield server, good
    finally:
        server.server.shutdown()
        server.server.server_close()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ThrottlingException"),
        (429, "TooManyRequestsException"),
        (400, "DependencyTimeoutException"),
        (500, "KMSInternalException"),
        (500, "KeyUnavailableException"),
        (503, "ServiceUnavailable"),
        (502, "Whatever"),
    ],
)
def test_what_passes_may_be_tried_again(
    failing: tuple[Failing, KmsSigner], status: int, code: str
) -> None:
    server, signer = failing
    server.status, server.code = status, code
    with pytest.raises(LedgerUnavailableError):
        signer.sign(b"m")
    with pytest.raises(LedgerUnavailableError):
        open_kms_signer("awskms:alias/x", KeyRole.LOG)


@pytest.mark.parametrize(
    "code",
    [
        "AccessDeniedException",
        "DisabledException",
        "KMSInvalidStateException",
        "NotFoundException",
        "InvalidKeyUsageException",
        "UnrecognizedClientException",
        "UnsupportedOperationException",
    ],
)
def test_what_does_not_pass_is_an_error_of_the_set_up(
    failing: tuple[Failing, KmsSigner], code: str
) -> None:
    server, signer = failing
    server.code = code
    with pytest.raises(ConfigurationError, match=code):
        signer.sign(b"m")
    with pytest.raises(ConfigurationError, match=code) as caught:
        open_kms_signer("awskms:alias/x", KeyRole.LOG)
    assert "must be allowed" in caught.value.remedy


def test_a_kms_that_nobody_reaches_may_be_tried_again(failing: tuple[Failing, KmsSigner]) -> None:
    server, signer = failing
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(LedgerUnavailableError, match="does not answer"):
        signer.sign(b"m")


def test_without_credentials_or_region(aws: pytest.MonkeyPatch) -> None:
    aws.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigurationError, match="NoRegionError"):
        open_kms_signer("awskms:alias/x", KeyRole.LOG)


@pytest.mark.parametrize(
    "uri", ["gcpkms:projects/p", "azurekms://v.vault.azure.net/keys/k", "hv:k"]
)
def test_a_library_that_lacks_is_named(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Google's library may be there: the library between says what it found when it was imported.
    gone = "securesystemslib.signer._gcp_signer.GCP_IMPORT_ERROR"
    monkeypatch.setattr(gone, "google-cloud-kms library required")
    with pytest.raises(ConfigurationError, match="not installed") as caught:
        open_kms_signer(uri, KeyRole.LOG)
    assert "securesystemslib[" in caught.value.remedy


@pytest.mark.parametrize("uri", ["", "awskms", "awskms:", "file2:/k", "/k", "gnupg:x", "AWSKMS:x"])
def test_any_other_uri_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="no URI that this version knows"):
        open_kms_signer(uri, KeyRole.LOG)


@pytest.mark.parametrize(
    "text",
    [
        *("airflow:x", "airflow://conn/x", "conn:x", "connection:x", "connections:x", "variable:x"),
        *(" Variables:x", "var:x", "airflow-connection:x", "AIRFLOW_VARIABLE:x"),
    ],
)
def test_a_key_in_an_airflow_connection_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Every task can read those"):
        refuse_airflow(text, "here")
    with pytest.raises(ConfigurationError, match=r"Every task can read those"):
        open_kms_signer(text, KeyRole.WRITER)
