"""A time-stamp authority, which signs that it saw a checkpoint's bytes at a time.

Source:
    RFC 3161 (protocol and HTTP transport, section 3.4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlgov.anchors.post import TIMEOUT_S, post
from airflow_mlgov.errors import AnchorError, AnchorUnavailableError, ConfigurationError
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.merkle import MerkleTree

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampResponse

KIND = "timestamp"
QUERY_TYPE, REPLY_TYPE = "application/timestamp-query", "application/timestamp-reply"
SHA256 = "2.16.840.1.101.3.4.2.1"


@dataclass(frozen=True, slots=True)
class TimestampAnchor:
    """Asks an authority for time-stamps.

    Attributes:
        name: What the settings call it.
        url: Where it answers.
        certificates: PEM file of the authority's root, and of what stands between that and the
            certificate that signs if the authority does not send it.
        timeout_s: For the request, in seconds.
    """

    name: str
    url: str
    certificates: Path
    timeout_s: float = TIMEOUT_S

    @property
    def kind(self) -> str:
        """``timestamp``."""
        return KIND

    def take(self, checkpoint: Checkpoint, tree: Callable[[], MerkleTree], since: int) -> bytes:  # noqa: ARG002
        """Return the authority's response over the note's exact bytes, checked."""
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

        note = checkpoint.note.encode("utf-8")
        builder = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256)
        request = builder.nonce(nonce=True).cert_request(cert_request=True).build()
        answer = post(self.url, request.as_bytes(), QUERY_TYPE, timeout_s=self.timeout_s)
        if answer.status != 200:
            raise AnchorUnavailableError(f"Authority {self.name} answered HTTP {answer.status}.")
        if answer.content_type != REPLY_TYPE:
            raise AnchorError(f"Authority {self.name} sent no time-stamp ({answer.content_type}).")
        self._verify(note, answer.body, request.nonce)
        return answer.body

    def check(self, note: bytes, data: bytes) -> datetime | None:
        """Check a time-stamp that was kept; return the authority's time."""
        return self._verify(note, data, None).tst_info.gen_time

    def notes(self, origin: str) -> list[bytes]:  # noqa: ARG002
        """Return nothing: an authority remembers nothing that one could ask for."""
        return []

    def _verify(self, note: bytes, data: bytes, nonce: int | None) -> TimeStampResponse:
        from cryptography.x509 import ObjectIdentifier
        from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

        builder = VerifierBuilder(roots=self._roots(), nonce=nonce)
        try:
            response = decode_timestamp_response(data)
            if response.status != 0:
                raise AnchorError(f"Authority {self.name} refused: status {response.status}.")
            imprint = response.tst_info.message_imprint
            if imprint.hash_algorithm != ObjectIdentifier(SHA256):
                raise AnchorError(f"Authority {self.name} stamped another kind of digest.")
            builder.build().verify(response, hashlib.sha256(note).digest())
        except (VerificationError, ValueError) as error:
            unsorted = "InvalidSetOrdering" in str(error)
            raise AnchorError(
                f"What authority {self.name} gave does not verify: {error}",
                remedy="It sends several certificates in no DER order: ask it for the signer's "
                "alone, or use another."
                if unsorted
                else "",
            ) from error
        return response

    def _roots(self) -> list[Certificate]:
        from cryptography.x509 import load_pem_x509_certificates

        try:
            return load_pem_x509_certificates(self.certificates.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"Anchor {self.name}: {self.certificates} holds no certificates that can be read: "
                f"{error}.",
                remedy="Name a PEM file of the authority's root certificate.",
            ) from error
