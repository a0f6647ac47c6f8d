"""A witness that cosigns checkpoints, if each extends the last that it saw.

Source:
    C2SP tlog-witness v1, ``add-checkpoint``; tlog-cosignature v1.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from airflow_mlgov.anchors.post import TIMEOUT_S, Answer, post
from airflow_mlgov.errors import AnchorError, AnchorUnavailableError, LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.cosignature import Cosignature, WitnessKey, cosignatures_of
from airflow_mlgov.ledger.merkle import MerkleTree

KIND = "witness"
SIZE_TYPE = "text/x.tlog.size"

_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_REFUSALS = {
    400: "finds the request malformed",
    403: "does not trust the log's key",
    404: "does not know the log",
}


@dataclass(frozen=True, slots=True)
class WitnessAnchor:
    """Asks a witness for cosignatures.

    Attributes:
        name: What the settings call it.
        url: Its submission prefix, without ``/add-checkpoint``.
        key: The key that it publishes.
        timeout_s: For each request, in seconds.
    """

    name: str
    url: str
    key: WitnessKey
    timeout_s: float = TIMEOUT_S

    @property
    def kind(self) -> str:
        """``witness``."""
        return KIND

    def take(self, checkpoint: Checkpoint, tree: Callable[[], MerkleTree], since: int) -> bytes:
        """Return the cosignature's note line, checked; starts from what the witness saw last."""
        old = since if since <= checkpoint.size else 0
        answer = self._ask(checkpoint, tree, old)
        # Without a size, 409 is about the root of the very size that was offered.
        is_same_size = old == checkpoint.size and answer.content_type != SIZE_TYPE
        if answer.status == 409 and not is_same_size:
            seen = self._size_in(answer)
            if seen > checkpoint.size:
                raise self._contradiction(checkpoint, f"has cosigned {seen} entries")
            answer = self._ask(checkpoint, tree, seen)
        self._check_accepted(answer, checkpoint)
        return self._cosignature(checkpoint.note.encode("utf-8"), answer.body).line

    def check(self, note: bytes, data: bytes) -> datetime | None:
        """Check a cosignature that was kept; return the witness's time."""
        return self._cosignature(note, data).at

    def notes(self, origin: str) -> list[bytes]:  # noqa: ARG002
        """Return nothing: the protocol has no call that asks a witness what it saw."""
        return []

    def _ask(self, checkpoint: Checkpoint, tree: Callable[[], MerkleTree], old: int) -> Answer:
        proof = tree().consistency_proof(old) if 0 < old < checkpoint.size else []
        lines = [f"old {old}", *(base64.b64encode(hashed).decode("ascii") for hashed in proof)]
        body = "\n".join(lines).encode("ascii") + b"\n\n" + checkpoint.note.encode("utf-8")
        url = f"{self.url.rstrip('/')}/add-checkpoint"
        return post(url, body, "text/plain", timeout_s=self.timeout_s)

    def _size_in(self, answer: Answer) -> int:
        match = _SIZE.fullmatch(answer.body) if answer.content_type == SIZE_TYPE else None
        if match is None:
            raise AnchorError(f"Witness {self.name} refused (409) and does not say which size.")
        return int(match[1])

    def _check_accepted(self, answer: Answer, checkpoint: Checkpoint) -> None:
        if answer.status == 200:
            return
        if answer.status == 422 or (answer.status == 409 and answer.content_type != SIZE_TYPE):
            raise self._contradiction(checkpoint, "refused the proof that the ledger grew from it")
        if answer.status == 409:
            raise AnchorUnavailableError(
                f"Witness {self.name} changed its mind twice about what it saw last: another "
                "process may be anchoring at the same time."
            )
        if answer.status in _REFUSALS:
            raise AnchorError(
                f"Witness {self.name} {_REFUSALS[answer.status]} (HTTP {answer.status}).",
                remedy="Give its operator the log's public key: `airflow mlgov ledger trust --vkey "
                "FILE` writes it.",
            )
        raise AnchorUnavailableError(f"Witness {self.name} answered HTTP {answer.status}.")

    def _contradiction(self, checkpoint: Checkpoint, said: str) -> LedgerIntegrityError:
        return LedgerIntegrityError(
            f"Witness {self.name} {said}; what it saw of log {checkpoint.origin} is not the "
            f"beginning of the {checkpoint.size} entries that the ledger shows now (root "
            f"{checkpoint.root_hash[:16]}): entries that were signed are gone or are others.",
            remedy="Ask its operator for the checkpoint that it cosigned last, and verify the "
            "ledger against it.",
        )

    def _cosignature(self, note: bytes, lines: bytes) -> Cosignature:
        try:
            found = cosignatures_of(note, lines, [self.key])
        except LedgerIntegrityError as error:
            raise AnchorError(
                f"What witness {self.name} gave does not verify: {error.problem}"
            ) from error
        if not found:
            raise AnchorError(f"Witness {self.name} gave no cosignature of {self.key.name}.")
        return found[0]
