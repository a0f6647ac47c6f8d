"""Whether a form that comes back is one of ours, sent by the person whom it was shown to.

A page of another site can have a browser send it anything, with the cookie of who is signed in. It
cannot read our pages. So each form holds a token that only we can make, for one person and one
model and some hours; and the browser's own word for where a form comes from is heard first.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from airflow_mlgov.errors import MlgovError

VALID_FOR = timedelta(hours=4)
"""How long a page may stand open before its forms are sent."""

_AGAIN = "Open the page again, and send the form from there."
_TOKEN = re.compile(r"([0-9]{1,12})\.([0-9]{1,12})\.([0-9a-f]{64})", re.ASCII)


class ForeignFormError(MlgovError):
    """A form was not sent by who was given it, or too late; a retry does not help."""


@dataclass(frozen=True, slots=True)
class FormTokens:
    """Makes and checks tokens.

    Args:
        key: Known to the api-server only.
        user: Id of who is signed in.
        model: Inventory id.
    """

    key: bytes
    user: str
    model: str

    def make(self, now: datetime, size: int) -> str:
        """Return the token for a page.

        Args:
            now: When it is made.
            size: Ledger entries that it is made from.
        """
        made = int(now.timestamp())
        return f"{made}.{size}.{self._mac(made, size)}"

    def check(self, token: str, now: datetime) -> int:
        """Return how many ledger entries the page was made from that a token was on.

        Raises:
            ForeignFormError: It is none, somebody else's, another model's, or too old; a retry does
                not help.
        """
        match = _TOKEN.fullmatch(token)
        made, size = (int(match[1]), int(match[2])) if match else (0, 0)
        if not match or not hmac.compare_digest(self._mac(made, size), match[3]):
            raise ForeignFormError(
                "This form was not made for you: it comes from somewhere else, or somebody else "
                "was signed in when the page was opened.",
                remedy=_AGAIN,
            )
        if now.timestamp() - made > VALID_FOR.total_seconds():
            raise ForeignFormError(
                f"The page stood open for more than {VALID_FOR.total_seconds() / 3600:.0f} hours.",
                remedy=_AGAIN,
            )
        return size

    def _mac(self, made: int, size: int) -> str:
        said = "\0".join(("mlgov form 1", str(made), str(size), self.model, self.user))
        return hmac.new(self.key, said.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def tokens_for(user: str, model: str) -> FormTokens:
    """Return what makes the tokens of one person for one model.

    The key comes from the one with which the api-servers of an Airflow sign the tokens of sign-in,
    so that a form of one of them can be sent to another.
    """
    from airflow.api_fastapi.auth.tokens import get_signing_args
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    known = get_signing_args()
    if "private_key" in known:
        secret = known["private_key"].private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        )
    else:
        secret = str(known["secret_key"]).encode()
    return FormTokens(hmac.new(secret, b"mlgov forms", hashlib.sha256).digest(), user, model)


def check_origin(headers: Mapping[str, str], base_url: str) -> None:
    """Refuse a form that the browser says another site has sent.

    Args:
        headers: Of the request.
        base_url: Airflow's own address; empty if it is not set.

    Raises:
        ForeignFormError: Another site, or nobody can tell; a retry does not help.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin", "").partition("://")[2]
    ours = {headers.get("host", ""), urlsplit(base_url).netloc} - {""}
    is_ours = site == "same-origin" if site else origin in ours
    if not is_ours:
        raise ForeignFormError(
            "This form was sent from another site, or your browser does not say from where.",
            remedy="If you did not send it, nothing was done. Else open the page in Airflow and "
            "send it from there; behind a proxy, [api] base_url must be Airflow's address.",
        )
