"""What a bundle holds from anchors: witnesses' cosignatures and authorities' time-stamps.

They are of checkpoints that were the newest when they were given. The bundle's own checkpoint
extends each of those, which is proven here; so an entry below such a checkpoint's size is one that
the anchor has seen the log commit to.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlgov.errors import LedgerIntegrityError, MlgovError, UnknownKeyError
from airflow_mlgov.ledger.bundle import anchored_file, numbers_in, timestamp_file
from airflow_mlgov.ledger.bundle_report import Verdict
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.cosignature import WitnessKey, cosignatures_of
from airflow_mlgov.ledger.dsse import from_base64
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.merkle import verify_consistency
from airflow_mlgov.ledger.timestamp import TimeStamp, read_timestamp
from airflow_mlgov.records.clock import to_text

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


@dataclass(frozen=True, slots=True)
class Demands:
    """What the reader wants of anchors.

    Attributes:
        witnesses: So many trusted witnesses must have cosigned a checkpoint over every entry in
            the bundle; 0 for none.
        authorities: Certificates of time-stamp authorities; one must have stamped a checkpoint, if
            any is given.
    """

    witnesses: int = 0
    authorities: tuple[Certificate, ...] = ()


def proof_lines(hashes: Sequence[bytes]) -> bytes:
    """Return a consistency proof as a file: a line of base64 for each hash."""
    return b"".join(base64.b64encode(hashed) + b"\n" for hashed in hashes)


class AnchorsCheck:
    """Checks what anchors gave, and tells what is wrong.

    Args:
        files: Content of the bundle by name.
        keyring: Whose keys count.
        indices: Of the entries in the bundle, as far as they are sound.
        add: Told what is wrong.

    Attributes:
        checked: What was checked and is as it should be, as lines.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        keyring: Keyring,
        indices: Sequence[int],
        add: Callable[[Verdict, str], None],
    ) -> None:
        self.checked: list[str] = []
        self._files = files
        self._keyring = keyring
        self._indices = indices
        self._add = add
        self._sound: dict[int, bytes] = {}
        self._cosigned: dict[WitnessKey, int] = {}
        self._stamped = False

    def run(self, checkpoint: Checkpoint, demands: Demands) -> None:
        """Check everything, against the bundle's own checkpoint."""
        for size in numbers_in(self._files, "anchored/"):
            self._try(f"The anchored checkpoint over {size}", self._check_size, size, checkpoint)
        for name in self._files:
            if name.startswith("timestamps/"):
                self._try(name, self._check_stamp, name, demands.authorities)
        self._check_demands(demands)

    def _try(self, where: str, check: Callable[..., None], *given: object) -> None:
        try:
            check(*given)
        except UnknownKeyError as error:
            self._add(Verdict.UNKNOWN_KEY, f"{where}: {error.problem}")
        except MlgovError as error:
            self._add(Verdict.ALTERED, f"{where}: {error.problem}")

    def _check_size(self, size: int, newest: Checkpoint) -> None:
        names = [anchored_file(size, kind) for kind in ("note", "proof")]
        note, proof = (self._files.get(name) for name in names)
        if note is None or proof is None:
            self._add(
                Verdict.INCOMPLETE, f"The anchored checkpoint over {size} lacks its note or proof."
            )
            return
        anchored = self._keyring.open(note)
        if anchored.size != size:
            raise LedgerIntegrityError(f"It is over {anchored.size} entries.")
        roots = bytes.fromhex(anchored.root_hash), bytes.fromhex(newest.root_hash)
        verify_consistency(size, newest.size, _hashes_in(proof), *roots)
        self._sound[size] = note
        lines = self._files.get(anchored_file(size, "cosignatures"), b"")
        for said in cosignatures_of(note, lines, self._keyring.trust.witnesses):
            self._cosigned[said.witness] = size  # the largest is checked last
            self.checked.append(
                f"witness {said.witness.name} cosigned the log's first {size} entries at "
                f"{to_text(said.at)} by its clock{self._after(size)}"
            )

    def _check_stamp(self, name: str, authorities: Sequence[Certificate]) -> None:
        data = self._files[name]
        if timestamp_file(data) != name:
            raise LedgerIntegrityError("It is not the time-stamp that its name says.")
        stamp = read_timestamp(data)
        size = next(
            (s for s, n in self._sound.items() if hashlib.sha256(n).digest() == stamp.imprint), None
        )
        if size is None:
            raise LedgerIntegrityError("It is of no checkpoint in anchored/ that is sound.")
        signer = stamp.signer(authorities)
        if signer is None:
            self._tell_unchecked(name, size, stamp)
            return
        self._stamped = True
        self.checked.append(
            f"authority {signer.subject.rfc4514_string()} stamped the log's first {size} entries "
            f"at {to_text(stamp.at)} by its clock{self._after(size)}"
        )

    def _tell_unchecked(self, name: str, size: int, stamp: TimeStamp) -> None:
        note = anchored_file(size, "note")
        self.checked.append(
            f"NOT CHECKED: a time-stamp that says {to_text(stamp.at)} for the log's first {size} "
            "entries; name the certificate that signs with --tsa-certificate, or unpack the bundle "
            f"and run: openssl ts -verify -in {name} -data {note} -CAfile AUTHORITY.pem"
        )

    def _later(self, size: int) -> int:
        return sum(index >= size for index in self._indices)

    def _after(self, size: int) -> str:
        later = self._later(size)
        return f"; {later} entries in the bundle came after" if later else ""

    def _check_demands(self, demands: Demands) -> None:
        good = sum(not self._later(size) for size in self._cosigned.values())
        if good < demands.witnesses:
            self._add(
                Verdict.INCOMPLETE,
                f"{demands.witnesses} witnesses were asked for; {good} whom the trust file names "
                f"cosigned a checkpoint over all entries in the bundle, {len(self._cosigned)} any.",
            )
        if demands.authorities and not self._stamped:
            self._add(
                Verdict.INCOMPLETE, "No time-stamp is signed by a certificate that was given."
            )


def _hashes_in(data: bytes) -> list[bytes]:
    lines = data.decode("ascii", errors="replace").split("\n")
    if lines.pop():
        raise LedgerIntegrityError("Its proof is not lines of hashes.")
    return [from_base64(line) for line in lines]
