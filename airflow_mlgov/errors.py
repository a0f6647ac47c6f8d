"""Every error that airflow-mlgov raises on purpose.

```
MlgovError                      code, retryable, diagnostics()
├─ ConfigurationError           a setting, connection or installed extra is wrong
│  └─ UnknownSubjectError       nobody knows the model or request that was named
├─ DocumentError                an inventory file, policy pack or suite is malformed
│                               (file, line, path, remedy)
├─ DataError                    data is missing, unreadable or failed its expectations
│  └─ DataUnavailableError      retryable: where the data comes from cannot be reached
├─ TrainingError                the training script broke its contract
├─ ScoringError                 the scoring script broke its contract
├─ PlatformError                a platform refused, or a job there is not what it should be
│  ├─ PlatformUnavailableError  retryable: the platform cannot be reached, or throttles
│  └─ ControlsRefusedError      the policy pack forbids a job as it would be submitted
├─ ArtefactError                a model directory holds what may not be there, or other bytes
├─ EvidenceError                an evidence document is missing, malformed or altered
├─ LedgerError
│  ├─ LedgerUnavailableError    retryable: the store cannot be reached or is locked
│  ├─ LedgerConflictError       one idempotency key, two contents
│  └─ LedgerIntegrityError      the ledger does not verify
│     └─ UnknownKeyError        it is signed, by a key that the reader was not told to trust
├─ AnchorError                  an anchor refused, or gave what does not verify
│  └─ AnchorUnavailableError    retryable: the anchor cannot be reached
├─ LineageError                 a lineage event is not one, or a target cannot take or show it
│  ├─ LineageRefusedError       the target will never take this event
│  └─ LineageUnavailableError   retryable: the target cannot be reached, or fails
├─ RegistryError
│  ├─ RegistryUnavailableError  retryable: the registry cannot be reached
│  └─ VersionNotFoundError      no such model, version or alias
├─ AirflowRefusedError          Airflow does not let us read what we need
├─ AirflowUnavailableError      retryable: Airflow's api-server cannot be reached
├─ RequestRefusedError          an approval may not be asked for yet
├─ ApprovalDeniedError          people said no; asking again needs a new version
├─ VoteRefusedError             an answer to a gate is no vote, or is one that does not count
├─ NotEntitledError             who asks may not resume this model, or revoke its approvals
├─ NotInForceError              a model is to be resumed that is not stopped
└─ GuardRefusedError            a model version may not be used now (check, reason, remedy)
```

Airflow translates them once (`airflow_mlgov.operators.run`): not retryable becomes
``AirflowFailException``. The command line exits with `exit_code`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class MlgovError(Exception):
    """Something that airflow-mlgov refuses or cannot do.

    Args:
        problem: What is wrong, and where, in one sentence.
        remedy: What the reader can do about it; empty if nothing is known to help.

    Attributes:
        code: Stable name of the kind of error, for logs and tests.
        retryable: Whether the same call may succeed later without anybody changing anything.
        exit_code: Exit status of the command line for this kind of error.
    """

    code: ClassVar[str] = "mlgov"
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".rstrip()

    def diagnostics(self) -> str:
        """Return the code, the problem and the remedy as lines for a person."""
        lines = [f"{self.code}: {self.problem}"]
        if self.remedy:
            lines.append(f"what to do: {self.remedy}")
        return "\n".join(lines)


class ConfigurationError(MlgovError):
    """A setting, a connection or an installed extra is missing or wrong; a retry does not help."""

    code = "configuration"
    exit_code = 64


class UnknownSubjectError(ConfigurationError):
    """Nobody knows the model or request that was named; a retry does not help."""


class DocumentError(MlgovError):
    """An inventory file, a policy pack or a suite is malformed; a retry does not help.

    Args:
        problem: What is wrong.
        file: The file as the user named it.
        line: Line of the offending value, counted from 1; 0 if the file as a whole is meant.
        path: Where in the document, as dotted keys and indices (``seats.0.users``).
        remedy: What to write instead.
    """

    code = "document"
    exit_code = 65

    def __init__(
        self, problem: str, *, file: str, line: int = 0, path: str = "", remedy: str = ""
    ) -> None:
        where = f"{file}:{line}" if line else file
        super().__init__(
            f"{where}: {path}: {problem}" if path else f"{where}: {problem}", remedy=remedy
        )
        self.file = file
        self.line = line
        self.path = path


class DataError(MlgovError):
    """Data is missing, unreadable or failed its expectations; a retry does not help."""

    code = "data"


class DataUnavailableError(DataError):
    """Where data comes from (a database, a function) cannot be reached; a retry may help."""

    code = "data.unavailable"
    retryable = True


class TrainingError(MlgovError):
    """The training script failed or broke its contract; a retry does not help."""

    code = "training"


class ScoringError(MlgovError):
    """The scoring script failed or broke its contract; a retry does not help."""

    code = "scoring"


class PlatformError(MlgovError):
    """A platform refused, or a job is not what it should be; a retry does not help."""

    code = "platform"


class PlatformUnavailableError(PlatformError):
    """A platform cannot be reached, fails or throttles; a retry finds the job, if there is one."""

    code = "platform.unavailable"
    retryable = True


class ControlsRefusedError(PlatformError):
    """The policy pack forbids a job as it would be submitted; nothing was started."""

    code = "platform.controls_refused"


class ArtefactError(MlgovError):
    """A model directory holds what may not be there, or other bytes than stated."""

    code = "artefact"


class EvidenceError(MlgovError):
    """An evidence document is missing, malformed or altered; a retry does not help."""

    code = "evidence"


class LedgerError(MlgovError):
    """The ledger refused or could not do what was asked."""

    code = "ledger"


class LedgerUnavailableError(LedgerError):
    """The ledger's store cannot be reached, is locked or is full; a retry may help."""

    code = "ledger.unavailable"
    retryable = True


class LedgerConflictError(LedgerError):
    """This idempotency key is on record with another content; a retry does not help."""

    code = "ledger.conflict"


class LedgerIntegrityError(LedgerError):
    """The ledger does not verify: bytes, hashes or signatures disagree; a retry does not help."""

    code = "ledger.integrity"


class UnknownKeyError(LedgerIntegrityError):
    """Something is signed by a key that is not in the trust file; a retry does not help."""

    code = "ledger.unknown_key"
    exit_code = 3


class AnchorError(MlgovError):
    """An anchor refused a checkpoint, or what it gave does not verify."""

    code = "anchor"


class AnchorUnavailableError(AnchorError):
    """An anchor cannot be reached, or did not answer in time; a retry may help."""

    code = "anchor.unavailable"
    retryable = True


class LineageError(MlgovError):
    """A lineage event is malformed, or a target cannot take it or show it."""

    code = "lineage"


class LineageRefusedError(LineageError):
    """A target of lineage will never take this event; a retry does not help."""

    code = "lineage.refused"


class LineageUnavailableError(LineageError):
    """A target of lineage cannot be reached, fails or is too slow; a retry may help."""

    code = "lineage.unavailable"
    retryable = True


class RegistryError(MlgovError):
    """The model registry refused or could not do what was asked."""

    code = "registry"


class RegistryUnavailableError(RegistryError):
    """The model registry cannot be reached; a retry may help."""

    code = "registry.unavailable"
    retryable = True


class VersionNotFoundError(RegistryError):
    """No such model, version or alias in the registry; a retry does not help."""

    code = "registry.not_found"


class AirflowRefusedError(MlgovError):
    """Airflow does not let us read something, or gives no answer of its API; no retry helps."""

    code = "airflow.refused"


class AirflowUnavailableError(MlgovError):
    """Airflow's api-server cannot be reached, or fails; a retry may help."""

    code = "airflow.unavailable"
    retryable = True


class RequestRefusedError(MlgovError):
    """An approval may not be asked for: evidence is missing or a High finding is open."""

    code = "approval.request_refused"


class ApprovalDeniedError(MlgovError):
    """People rejected this request; asking again needs another version or another run."""

    code = "approval.denied"


class VoteRefusedError(MlgovError):
    """An answer to a gate is no vote, or is one that does not count; the same one never will.

    Args:
        reasons: Each rule that it broke, in words that name nobody.
    """

    code = "approval.vote_refused"

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(f"Your answer was not counted: {'; '.join(reasons)}.")
        self.reasons = tuple(reasons)


class NotEntitledError(MlgovError):
    """Who asks may not resume this model, or revoke its approvals; a retry does not help."""

    code = "not_entitled"


class NotInForceError(MlgovError):
    """What is to be ended is not in force: a stop, an open finding; a retry does not help."""

    code = "not_in_force"


class GuardRefusedError(MlgovError):
    """A model version may not be used now; a retry does not help.

    Args:
        check: Which check failed, by its stable name (``digest``, ``approval``, ``consumed``, ...).
        problem: What was found.
        remedy: What to do next.
    """

    code = "guard.refused"

    def __init__(self, check: str, problem: str, *, remedy: str = "") -> None:
        super().__init__(f"[{check}] {problem}", remedy=remedy)
        self.check = check
        self.reason = problem
