"""Time-stamps that openssl made, taken apart and checked by our own code."""

from __future__ import annotations

import hashlib
import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import (
    CertificateBuilder,
    ExtendedKeyUsage,
    ExtensionType,
    Name,
    NameAttribute,
    ObjectIdentifier,
    UnrecognizedExtension,
    load_der_x509_certificate,
    load_pem_x509_certificates,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger import timestamp
from airflow_mlgov.ledger.timestamp import read_timestamp

DATA = b"what is stamped\n"


def load_fake(name: str):
    place = Path(__file__).parents[2] / "fakes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Authority = load_fake("timestamp_authority").Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def stamped(authority) -> bytes:
    return authority.stamp_data(DATA)


def certificates(authority):
    return load_pem_x509_certificates(authority.signer.read_bytes())


def check(data: bytes, authority) -> None:
    assert read_timestamp(data).signer(certificates(authority)) is not None


@pytest.mark.parametrize("key", ["rsa:2048", "ec"])
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_a_stamp_says_what_and_when(tmp_path, key, digest) -> None:
    authority = Authority(tmp_path, key=key)
    config = tmp_path / "c.cnf"
    config.write_text(
        config.read_text().replace("signer_digest = sha256", f"signer_digest = {digest}")
    )
    stamp = read_timestamp(authority.stamp_data(DATA))
    assert stamp.imprint == hashlib.sha256(DATA).digest()
    assert abs(stamp.at - datetime.now(UTC)) < timedelta(minutes=1)
    signer = stamp.signer(certificates(authority))
    assert signer.subject.rfc4514_string() == "CN=Test authority"


def test_the_certificates_that_it_brings_are_not_believed(authority, stamped, tmp_path) -> None:
    stamp = read_timestamp(stamped)
    assert stamp.signer([]) is None
    assert stamp.signer(certificates(Authority(tmp_path))) is None
    assert stamp.signer(load_pem_x509_certificates(authority.root.read_bytes())) is None


def test_their_order_does_not_matter(tmp_path) -> None:
    authority = Authority(tmp_path)
    authority.send_root_too()
    check(authority.stamp_data(DATA), authority)


def test_no_byte_can_be_changed_so_that_it_says_something_else(authority, stamped) -> None:
    """What may change are bytes that are not looked at; what is said then stays the same."""
    honest, accepted = read_timestamp(stamped), 0
    for at in range(len(stamped)):
        for bit in (1, 0x80):
            bad = stamped[:at] + bytes([stamped[at] ^ bit]) + stamped[at + 1 :]
            try:
                stamp = read_timestamp(bad)
                signer = stamp.signer(certificates(authority))
            except LedgerIntegrityError:
                continue
            accepted += signer is not None
            if signer is not None:
                assert (stamp.imprint, stamp.at) == (honest.imprint, honest.at)
    assert 0 < accepted < 1700  # of 2 * 1.3 kB: mostly the certificate, which is not looked at


def test_no_length_is_enough_but_its_own(stamped) -> None:
    for size in range(len(stamped)):
        with pytest.raises(LedgerIntegrityError):
            read_timestamp(stamped[:size])
    with pytest.raises(LedgerIntegrityError):
        read_timestamp(stamped + b"\0")
    for size, said in ((65_536, "more in it"), (65_537, "longer than 65536")):
        with pytest.raises(LedgerIntegrityError, match=said):
            read_timestamp(b"\0" * size)


LENGTH, CUT, PARTS = "a length is open, or longer", "not DER, or cut off", "not built as"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x30\x80\x00\x00", LENGTH),
        (b"\x30\x80" + b"\0" * 0x80, LENGTH),
        (b"\x30\x81\x01\x00", LENGTH),
        (b"\x30\x81\x7f" + b"\0" * 0x7F, LENGTH),
        (b"\x30\x82\x00\xff" + b"\0" * 0xFF, LENGTH),
        (b"\x30\x85\x00\x00\x00\x00\x01\x00", LENGTH),
        (b"\x30\x84\xff\xff\xff\xff", CUT),
        (b"\x30\x88" + b"\xff" * 8, CUT),
        (b"\x30\x02\x00", CUT),
        (b"\x30\x81", LENGTH),
        (b"\x30", CUT),
        (b"\x3f\x01\x00", CUT),
        (b"\x30" * 60_000, "more in it"),
        (b"", PARTS),
        (b"\x30\x7e" + b"\0" * 0x7E, PARTS),
        (b"\x30\x81\x80" + b"\0" * 0x80, PARTS),
        (b"\x30\x82\x01\x00" + b"\0" * 0x100, PARTS),
    ],
)
def test_what_is_not_der_is_told_from_other_der(data, said) -> None:
    with pytest.raises(LedgerIntegrityError, match=said):
        read_timestamp(data)


def test_one_that_was_refused_or_is_over_another_digest(authority) -> None:
    with pytest.raises(LedgerIntegrityError, match="not over a SHA-256"):
        read_timestamp(authority.stamp_data(DATA, "-sha512"))
    query = (authority.folder / "d.tsq").read_bytes()
    with pytest.raises(LedgerIntegrityError):
        read_timestamp(authority.stamp(query[:-3] + b"xyz"))


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        ("none", "for no time-stamps"),
        ("lax", "not for time-stamps alone"),
        ("mixed", "not for time-stamps alone"),
        ("stamps", ""),
    ],
)
def test_what_the_certificate_is_for(authority, tmp_path, usage, message) -> None:
    wrong = Authority(tmp_path, usage=usage)
    data = wrong.sign_anyway(authority.stamp_data(DATA))
    if not message:
        return check(data, wrong)
    with pytest.raises(LedgerIntegrityError, match=message):
        check(data, wrong)
    return None


def test_a_certificate_that_was_not_valid_then(authority, stamped, monkeypatch) -> None:
    (certificate,) = certificates(authority)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    for moment in (first - timedelta(seconds=1), last + timedelta(seconds=1)):
        monkeypatch.setattr(timestamp, "_moment", lambda _, moment=moment: moment)
        with pytest.raises(LedgerIntegrityError, match="not valid at its time"):
            check(stamped, authority)
    for moment in (first, last):
        monkeypatch.setattr(timestamp, "_moment", lambda _, moment=moment: moment)
        check(stamped, authority)


def test_a_key_of_a_kind_that_is_not_read(authority, stamped) -> None:
    (honest,) = certificates(authority)
    key = Ed25519PrivateKey.generate()
    builder = CertificateBuilder(
        honest.issuer,
        honest.subject,
        key.public_key(),
        honest.serial_number,
        honest.not_valid_before_utc,
        honest.not_valid_after_utc,
    )
    with pytest.raises(LedgerIntegrityError, match="of a kind that is not read"):
        read_timestamp(stamped).signer([builder.sign(key, None)])


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    raw = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(raw)]) + raw + body


OTHER = der(0x30, der(0x06, b"\x2a\x03"), der(0x31, der(0x05)))
"""A signed attribute of no meaning."""


class Forge:
    """Makes responses from their parts, signed by a key that the reader trusts."""

    OIDS: ClassVar = {
        "signed data": "2a864886f70d010702",
        "time-stamp": "2a864886f70d0109100104",
        "type": "2a864886f70d010903",
        "digest": "2a864886f70d010904",
        "sha256": "608648016503040201",
    }

    def __init__(self, *extensions: ExtensionType) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = Name([NameAttribute(NameOID.COMMON_NAME, "forge")])
        now = datetime.now(UTC)
        day = timedelta(days=1)
        built = CertificateBuilder(name, name, self.key.public_key(), 5, now - day, now + day)
        usage = ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        for extension in extensions or (usage,):
            built = built.add_extension(extension, critical=True)
        self.certificate = built.sign(self.key, SHA256())

    def oid(self, name: str) -> bytes:
        return der(0x06, bytes.fromhex(self.OIDS[name]))

    def attribute(self, name: str, *values: bytes) -> bytes:
        return der(0x30, self.oid(name), der(0x31, *values))

    def make(self, **changes) -> bytes:
        sha256 = der(0x30, self.oid("sha256"))
        imprint = der(0x30, sha256, der(0x04, hashlib.sha256(DATA).digest()))
        at = der(0x18, changes.get("at", f"{datetime.now(UTC):%Y%m%d%H%M%S}Z").encode())
        one = der(0x02, b"\1")
        info = der(0x30, one, der(0x06, b"\x2a\x03"), imprint, one, at)
        kind = self.attribute("type", self.oid("time-stamp"))
        digest = self.attribute("digest", der(0x04, hashlib.sha256(info).digest()))
        attributes = changes.get("attributes", lambda *both: both)(kind, digest)
        signed = changes.get("signed", der(0x31, *attributes))
        signature = self.key.sign(signed, ec.ECDSA(SHA256()))
        names = der(0x30, self.certificate.issuer.public_bytes(), der(0x02, b"\5"))
        signer = der(0x30, one, names, sha256, der(0xA0, *attributes), sha256, der(0x04, signature))
        inner = der(0x30, self.oid(changes.get("inner", "time-stamp")), der(0xA0, der(0x04, info)))
        signers = der(0x31, *[signer] * changes.get("signers", 1))
        signed = der(0x30, one, der(0x31, sha256), inner, signers)
        token = der(0x30, self.oid(changes.get("outer", "signed data")), der(0xA0, signed))
        status = der(0x30, der(changes.get("tag", 0x02), bytes([changes.get("status", 0)])))
        return changes.get("envelope", lambda *both: der(0x30, *both))(status, token)


def long_form(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return b"\x30\x83" + len(body).to_bytes(3, "big") + body


def two_values(digest: bytes) -> bytes:
    """The attribute of a digest, which has it twice."""
    oid, value = digest[2:13], digest[-34:]
    assert digest == der(0x30, oid, der(0x31, value))
    return der(0x30, oid, der(0x31, value, value))


LONG_TAG = b"\x1f\x01\x00"
"""A part whose tag goes on in the next byte; where it stands nobody looks at it."""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"status": 1}, "did not grant"),
        ({"outer": "digest"}, "no CMS signed data"),
        ({"inner": "signed data"}, "no CMS signed data"),
        ({"signers": 2}, "more in it than a time-stamp of one signer"),
        ({"attributes": lambda kind, digest: (kind, digest, digest)}, "stands in it twice"),
        ({"attributes": lambda kind, digest: (kind, OTHER)}, "something else than its content"),
        ({"attributes": lambda kind, digest: (OTHER, digest)}, "something else than its content"),
        ({"attributes": lambda kind, digest: (kind, two_values(digest))}, "stands in it twice"),
        ({"envelope": long_form}, "not DER"),
        ({"envelope": lambda *both: der(0x30, *both, LONG_TAG)}, "not DER"),
        ({"tag": 0x0A}, "not built as"),
        ({"at": "20260101000000+0000"}, "Its time is none"),
        ({"at": "20261301000000Z"}, "Its time is none"),
    ],
)
def test_what_is_put_together_wrongly(changes, message) -> None:
    forge = Forge()
    data = forge.make(**changes)
    if not message:  # what is refused below is refused for one thing alone
        assert read_timestamp(data).signer([forge.certificate]) is forge.certificate
        return
    with pytest.raises(LedgerIntegrityError, match=message):
        read_timestamp(data)


def test_a_signature_over_something_else() -> None:
    forge = Forge()
    stamp = read_timestamp(forge.make(signed=b"something else"))
    with pytest.raises(LedgerIntegrityError, match="does not fit"):
        stamp.signer([forge.certificate])


def test_a_certificate_whose_purpose_cannot_be_read() -> None:
    forge = Forge(UnrecognizedExtension(ExtensionOID.EXTENDED_KEY_USAGE, b"junk"))
    with pytest.raises(LedgerIntegrityError, match="for no time-stamps"):
        read_timestamp(forge.make()).signer([forge.certificate])


def test_a_certificate_that_states_its_purpose_twice() -> None:
    usage = ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
    other = ObjectIdentifier(ExtensionOID.EXTENDED_KEY_USAGE.dotted_string.replace(".37", ".38"))
    forge = Forge(usage, UnrecognizedExtension(other, b"\5\0"))
    made = forge.certificate.public_bytes(Encoding.DER)
    twice = load_der_x509_certificate(made.replace(b"\x55\x1d\x26", b"\x55\x1d\x25"))
    with pytest.raises(LedgerIntegrityError, match="for no time-stamps"):
        read_timestamp(forge.make()).signer([twice])
