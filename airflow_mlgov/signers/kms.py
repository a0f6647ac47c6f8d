"""Keys that a KMS keeps and never hands out, through securesystemslib."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerIntegrityError,
    LedgerUnavailableError,
    MlgovError,
)
from airflow_mlgov.ledger.signatures import (
    Algorithm,
    algorithm_of,
    check_signature,
    in_one_form,
)
from airflow_mlgov.records.kinds import KeyRole

if TYPE_CHECKING:
    from securesystemslib.signer import Key
    from securesystemslib.signer import Signer as RemoteKey

SCHEMES: Mapping[str, str] = {
    "awskms": "airflow-mlgov[awskms]",
    "gcpkms": "securesystemslib[gcpkms]",
    "azurekms": "securesystemslib[azurekms]",
    "hsm": "securesystemslib[hsm]",
    "hv": "securesystemslib[vault]",
}
"""Schemes of URIs, and what they need. Only the first has been tried."""

_OF_AIRFLOW = re.compile(
    r"\s*(airflow|conn|connection|var|variable)s?([_-][a-z_-]+)?:", re.IGNORECASE
)
_NO_CONNECTION = frozenset({"ConnectionError", "HTTPClientError", "TimeoutError"})
_BUSY = frozenset(
    {
        "DependencyTimeoutException",
        "InternalFailure",
        "KMSInternalException",
        "KeyUnavailableException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


@dataclass(frozen=True)
class KmsSigner:
    """A `Signer` whose private key stays in a KMS.

    Attributes:
        role: What the key is for.
        name: Its name in C2SP note form.
        uri: Where the key is.
        public_key: As the KMS told it once, when this was opened.
    """

    role: KeyRole
    name: str
    uri: str
    public_key: bytes
    _key: RemoteKey = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, after checking that it is this key's.

        Raises:
            ConfigurationError: The KMS refuses, or signed with another key than it named; a retry
                does not help.
            LedgerUnavailableError: The KMS cannot be reached or is busy; a retry may help.
        """
        with _translated(self.uri):
            signature = bytes.fromhex(self._key.sign(message).signature)
        try:
            if algorithm_of(self.public_key) is Algorithm.ECDSA_P256:
                signature = in_one_form(signature)
            check_signature(self.public_key, signature, message)
        except (LedgerIntegrityError, ValueError) as error:
            raise ConfigurationError(
                f"The KMS signed with another key than the one that {self.uri} named before.",
                remedy="Was an alias moved? Rotate the key with `airflow mlgov keys rotate`.",
            ) from error
        return signature


def refuse_airflow(text: str, where: str) -> None:
    """Refuse a key, or what leads to one, that is in an Airflow connection or variable.

    Args:
        text: What is written there; never repeated.
        where: Where, for people.

    Raises:
        ConfigurationError: It is; a retry does not help.
    """
    if _OF_AIRFLOW.match(text):
        raise ConfigurationError(
            f"{where} points to an Airflow connection or variable. Every task can read those, so "
            "every task could sign as this role.",
            remedy="Keep the key in a file that only this process's user can read, or in a KMS.",
        )


def open_kms_signer(uri: str, role: KeyRole, *, pin: str | None = None) -> KmsSigner:
    """Return the signer of a role whose key is in a KMS; its public key is fetched once.

    Args:
        uri: A securesystemslib private-key URI, such as ``awskms:alias/mlgov-log``.
        role: What the key is for.
        pin: Opens a hardware token, if the key is in one.

    Raises:
        ConfigurationError: The URI's scheme is not known, the KMS refuses, or the key is of another
            kind than Ed25519 and ECDSA P-256; a retry does not help.
        LedgerUnavailableError: The KMS cannot be reached or is busy; a retry may help.
    """
    refuse_airflow(uri, f"The key of the {role}")
    scheme, _, rest = uri.partition(":")
    if scheme not in SCHEMES or not rest:
        raise ConfigurationError(
            f"The key of the {role} is named by no URI that this version knows.",
            remedy=f"Write one that begins with {', '.join(f'{name}:' for name in SCHEMES)}.",
        )
    with _translated(uri):
        found, public = _fetched(scheme, rest)
        _check_same(uri, found)
        public_key = _bytes_of(public, uri)
        remote = _remote_key(found, public, pin)
    return KmsSigner(role, f"airflow-mlgov-{role.value}", found, public_key, remote)


def _fetched(scheme: str, rest: str) -> tuple[str, Key]:
    """Return the full URI of a key and its public half, as the KMS tells them."""
    from securesystemslib import signer

    parts = urlsplit(rest)
    found: tuple[str, Key]
    if scheme == "awskms":
        found = signer.AWSSigner.import_(rest)
    elif scheme == "gcpkms":
        found = signer.GCPSigner.import_(rest)
    elif scheme == "hv":
        found = signer.VaultSigner.import_(rest.partition("/")[0])
    elif scheme == "azurekms":
        vault, name = parts.netloc.partition(".")[0], parts.path.split("/")[2]
        found = signer.AzureSigner.import_(vault, name)
    else:
        label = dict(parse_qsl(parts.query)).get("label")
        found = signer.HSMSigner.import_(int(parts.path), label)
    return found


def _check_same(asked: str, found: str) -> None:
    # Vault and Azure answer with the newest version of a key; a version that was named is meant.
    if found != asked and not found.startswith((f"{asked}/", f"{asked}?")):
        raise ConfigurationError(
            f"{asked} is not the newest version of its key: the KMS answers with {found}.",
            remedy="Rotate to the newest version with `airflow mlgov keys rotate`.",
        )


def _bytes_of(public: Key, uri: str) -> bytes:
    from cryptography.hazmat.primitives import serialization

    value = public.keyval["public"]
    if public.scheme == "ed25519":
        return bytes.fromhex(value)
    if public.scheme != "ecdsa-sha2-nistp256":
        raise ConfigurationError(
            f"The key {uri} signs with {public.scheme}, which the ledger does not know.",
            remedy="Make an asymmetric key for signing of kind ECC_NIST_P256 (or Ed25519).",
        )
    key = serialization.load_pem_public_key(value.encode("ascii"))
    public_key = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    algorithm_of(public_key)  # securesystemslib calls keys of other curves by that name too
    return public_key


def _remote_key(uri: str, public: Key, pin: str | None) -> RemoteKey:
    from securesystemslib.signer import Signer as AnySigner

    return AnySigner.from_priv_key_uri(uri, public, None if pin is None else lambda _: pin)


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        raise _translation(uri, error) from error


def _translation(uri: str, error: Exception) -> MlgovError:
    """Return what an error of an SDK means here; of AWS by its code, of others by its class."""
    code = _aws_code(error)
    if _is_passing(error, code):
        return LedgerUnavailableError(f"The KMS of {uri} does not answer: {code}.")
    if isinstance(error, ImportError) or code == "UnsupportedLibraryError":
        return ConfigurationError(
            f"The key {uri} needs a library that is not installed.",
            remedy=f"Install {SCHEMES[uri.partition(':')[0]]}.",
        )
    return ConfigurationError(
        f"The key {uri} cannot be used ({code}): {error}",
        remedy="It must exist, be enabled, be a signing key of kind ECC_NIST_P256 (or Ed25519), "
        "and this process must be allowed to get its public key and to sign with it.",
    )


def _aws_code(error: Exception) -> str:
    response = getattr(error, "response", None)
    known = response.get("Error", {}) if isinstance(response, dict) else {}
    return str(known.get("Code") or type(error).__name__)


def _is_passing(error: Exception, code: str) -> bool:
    response = getattr(error, "response", None)
    told = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    if code in _BUSY or told.get("HTTPStatusCode", 0) >= 500:
        return True
    # Of botocore, whose errors are no OSError, and of what else stands between here and a KMS.
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & _NO_CONNECTION)
