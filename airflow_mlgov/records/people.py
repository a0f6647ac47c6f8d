"""People, and the salted commitments that stand for them in ledger entries.

No name and no free text stands in a leaf: a commitment does. Its salt and value stand in an
erasable side table, so a person can be forgotten while every proof stays valid.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.records.canonical import canonical_bytes

SALT_BYTES = 32
_PREFIX = b"\x02"  # RFC 6962 uses 0x00 for leaves and 0x01 for nodes


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, as the auth manager knows them.

    Attributes:
        id: The auth manager's user id (a number with FAB, a name with SimpleAuthManager).
        name: What people call them; equal to the id where nothing better is known.
    """

    id: str
    name: str

    def as_json(self) -> dict[str, str]:
        """Return the person as JSON values."""
        return {"id": self.id, "name": self.name}

    def is_same_as(self, known_as: str) -> bool:
        """Tell whether a name or id that a policy or inventory states means this person."""
        return known_as.casefold() in {self.id.casefold(), self.name.casefold()}


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What opens a commitment.

    Attributes:
        salt: 32 random bytes.
        value: A person's JSON object or a text.
    """

    salt: bytes
    value: Any

    @classmethod
    def of(cls, value: Any) -> Disclosure:
        """Return a disclosure of a value with a fresh salt."""
        return cls(secrets.token_bytes(SALT_BYTES), value)

    @property
    def commitment(self) -> str:
        """SHA-256(0x02 || salt || canonical JSON of the value), as hex."""
        return hashlib.sha256(_PREFIX + self.salt + canonical_bytes(self.value)).hexdigest()

    def check(self, commitment: str) -> Any:
        """Return the value if it is what was committed to.

        Raises:
            LedgerIntegrityError: The salt or value was altered.
        """
        if not hmac.compare_digest(self.commitment, commitment):
            raise LedgerIntegrityError(
                "A disclosed name or text is not what the ledger committed to."
            )
        return self.value
