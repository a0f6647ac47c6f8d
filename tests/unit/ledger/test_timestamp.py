"""Time-stamps that openssl made, taken apart and checked by our own code."""

from __future__ import annotations

import hashlib
import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509 import CertificateBuilder, load_pem_x509_certificates

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger import timestamp
from airflow_mlgov.ledger.timestamp import MAX_TIMESTAMP_BYTES, read_timestamp

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
    with pytest.raises(LedgerIntegrityError, match="longer than"):
        read_timestamp(b"\0" * (MAX_TIMESTAMP_BYTES + 1))


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\x80\x00\x00",
        b"\x30\x81\x01\x00",
        b"\x30\x82\x00\x81" + b"\0" * 0x81,
        b"\x30\x85\x00\x00\x00\x00\x01\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x3f\x01\x00",
        b"\x30",
        b"\x30" * 60_000,
        b"",
    ],
)
def test_what_is_not_der(data) -> None:
    with pytest.raises(LedgerIntegrityError):
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
    for moment in (
        certificate.not_valid_before_utc - timedelta(seconds=1),
        certificate.not_valid_after_utc + timedelta(seconds=1),
    ):
        monkeypatch.setattr(timestamp, "_moment", lambda _, moment=moment: moment)
        with pytest.raises(LedgerIntegrityError, match="not valid at its time"):
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
