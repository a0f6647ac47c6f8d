"""RFC 3161 time-stamps, checked against certificates that the reader brings.

No chain is built: the certificate that signs is one of the reader's own or unknown. Those in the
token are not looked at, nor is revocation.

Source:
    RFC 3161 section 2.4.2; RFC 5652 (CMS) sections 5.3, 5.4 and 11; X.690 section 10.1 (DER).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from airflow_mlgov.errors import LedgerIntegrityError

MAX_TIMESTAMP_BYTES = 64 * 1024

_INTEGER, _OCTETS, _OID, _TIME = 0x02, 0x04, 0x06, 0x18
_SEQUENCE, _SET, _EXPLICIT_0 = 0x30, 0x31, 0xA0
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_SHA256, _SHA384, _SHA512 = (bytes.fromhex(f"60864801650304020{n}") for n in (1, 2, 3))
_HASHES: dict[bytes, hashes.HashAlgorithm]
_HASHES = {_SHA256: hashes.SHA256(), _SHA384: hashes.SHA384(), _SHA512: hashes.SHA512()}
_MOMENT = re.compile(rb"([0-9]{14})(\.[0-9]{1,9})?Z")


@dataclass(frozen=True, slots=True)
class TimeStamp:
    """A time-stamp that was taken apart; nothing that it says was believed yet.

    Attributes:
        imprint: SHA-256 of what was stamped.
        at: When, by the authority's clock, to the second.
        issuer: DER name of who issued the signer's certificate.
        serial: That certificate's number.
        hashed_with: What the signature hashes with.
        signed: The exact bytes that it is over.
        signature: By the signer's key.
    """

    imprint: bytes
    at: datetime
    issuer: bytes
    serial: int
    hashed_with: hashes.HashAlgorithm
    signed: bytes
    signature: bytes

    def signer(self, certificates: Iterable[x509.Certificate]) -> x509.Certificate | None:
        """Return which of the reader's certificates signed it, checked; None if none of them did.

        Raises:
            LedgerIntegrityError: It names one that did not, or that may not sign time-stamps.
        """
        for certificate in certificates:
            named = (certificate.issuer.public_bytes(), certificate.serial_number)
            if named == (self.issuer, self.serial):
                self._check_signature(certificate)
                _check_may_stamp(certificate, self.at)
                return certificate
        return None

    def _check_signature(self, certificate: x509.Certificate) -> None:
        key = certificate.public_key()
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(self.signature, self.signed, padding.PKCS1v15(), self.hashed_with)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(self.signature, self.signed, ec.ECDSA(self.hashed_with))
            else:
                raise LedgerIntegrityError("Its signer's key is of a kind that is not read here.")
        except InvalidSignature as error:
            raise LedgerIntegrityError("The signature of the time-stamp does not fit.") from error


def read_timestamp(data: bytes) -> TimeStamp:
    """Take a response apart, after checking that what is signed is over what it says.

    Raises:
        LedgerIntegrityError: It is not, or no granted response in DER with one signer.
    """
    if len(data) > MAX_TIMESTAMP_BYTES:
        raise LedgerIntegrityError(f"It is longer than {MAX_TIMESTAMP_BYTES} bytes.")
    status, token, *_ = _parts(_only(data, _SEQUENCE), 2)
    if _parts(status.inside(_SEQUENCE), 1)[0].inside(_INTEGER) != b"\0":
        raise LedgerIntegrityError("The authority did not grant it.")
    outer, content, *_ = _parts(token.inside(_SEQUENCE), 2)
    _, _, stamped, *rest = _parts(_only(content.inside(_EXPLICIT_0), _SEQUENCE), 4)
    inner, octets, *_ = _parts(stamped.inside(_SEQUENCE), 2)
    if (outer.inside(_OID), inner.inside(_OID)) != (_SIGNED_DATA, _TST_INFO):
        raise LedgerIntegrityError("It is no CMS signed data over a time-stamp.")
    info = _only(octets.inside(_EXPLICIT_0), _OCTETS)
    return _signed_by(_only(rest[-1].inside(_SET), _SEQUENCE), info)


def _signed_by(signer: bytes, info: bytes) -> TimeStamp:
    _, names, digest, attributes, _, signature, *_ = _parts(signer, 6)
    issuer, serial, *_ = _parts(names.inside(_SEQUENCE), 2)
    hashed_with = _HASHES.get(_parts(digest.inside(_SEQUENCE), 1)[0].inside(_OID))
    if hashed_with is None:
        raise LedgerIntegrityError("It is hashed with neither SHA-256, SHA-384 nor SHA-512.")
    said = _attributes(attributes.inside(_EXPLICIT_0))
    found = hashlib.new(hashed_with.name, info).digest()
    claimed = said.get(_CONTENT_TYPE), said.get(_MESSAGE_DIGEST)
    if claimed != ((_OID, _TST_INFO), (_OCTETS, found)):
        raise LedgerIntegrityError("Its signature is over something else than its content.")
    _, _, imprint, _, moment, *_ = _parts(_only(info, _SEQUENCE), 5)
    algorithm, hashed, *_ = _parts(imprint.inside(_SEQUENCE), 2)
    if _parts(algorithm.inside(_SEQUENCE), 1)[0].inside(_OID) != _SHA256:
        raise LedgerIntegrityError("It is not over a SHA-256 digest.")
    number = int.from_bytes(serial.inside(_INTEGER), "big")
    signed = bytes([_SET]) + attributes.whole[1:]  # RFC 5652 section 5.4
    stamped = hashed.inside(_OCTETS), _moment(moment.inside(_TIME))
    return TimeStamp(*stamped, issuer.whole, number, hashed_with, signed, signature.inside(_OCTETS))


def _attributes(data: bytes) -> dict[bytes, tuple[int, bytes]]:
    found: dict[bytes, tuple[int, bytes]] = {}
    for attribute in _parts(data, 2):
        kind, values, *_ = _parts(attribute.inside(_SEQUENCE), 2)
        value, *more = _parts(values.inside(_SET), 1)
        if kind.body in found or more:
            raise LedgerIntegrityError("A signed attribute stands in it twice.")
        found[kind.inside(_OID)] = (value.tag, value.body)
    return found


def _moment(text: bytes) -> datetime:
    match = _MOMENT.fullmatch(text)
    with suppress(ValueError):
        if match is not None:
            return datetime.strptime(match[1].decode("ascii"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    raise LedgerIntegrityError("Its time is none.")


def _check_may_stamp(certificate: x509.Certificate, at: datetime) -> None:
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise LedgerIntegrityError("Its signer's certificate was not valid at its time.")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise LedgerIntegrityError("Its signer's certificate is for no time-stamps.") from error
    if not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise LedgerIntegrityError("Its signer's certificate is not for time-stamps alone.")


@dataclass(frozen=True, slots=True)
class _Part:
    tag: int
    body: bytes
    whole: bytes

    def inside(self, tag: int) -> bytes:
        if self.tag != tag:
            raise LedgerIntegrityError("It is not built as a time-stamp is.")
        return self.body


def _only(data: bytes, tag: int) -> bytes:
    part, *more = _parts(data, 1)
    if more:
        raise LedgerIntegrityError("It has more in it than a time-stamp of one signer has.")
    return part.inside(tag)


def _parts(data: bytes, least: int) -> list[_Part]:
    found: list[_Part] = []
    at = 0
    while at < len(data):
        start, end = _bounds(data, at)
        found.append(_Part(data[at], data[start:end], data[at:end]))
        at = end
    if len(found) < least:
        raise LedgerIntegrityError("It is not built as a time-stamp is.")
    return found


def _bounds(data: bytes, at: int) -> tuple[int, int]:
    start = at + 2
    size = int.from_bytes(data[at + 1 : start], "big")  # 0 if it lacks: then it is cut off
    if size >= 0x80:
        count = size & 0x7F
        size = int.from_bytes(data[start : start + count], "big")
        start += count
        if size < 0x80 or size.bit_length() <= 8 * (count - 1):
            raise LedgerIntegrityError("It is not DER: a length is open, or longer than need be.")
    if start + size > len(data) or data[at] & 0x1F == 0x1F:
        raise LedgerIntegrityError("It is not DER, or cut off.")
    return start, start + size
