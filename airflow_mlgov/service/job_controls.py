"""The policy pack's platform controls, held against a job before a cent is spent on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from airflow_mlgov.errors import ControlsRefusedError
from airflow_mlgov.policy.platform_controls import (
    ControlResult,
    PlatformRules,
    Verdict,
    examine,
)
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.documents import document_bytes
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.job_platform import Jobs
from airflow_mlgov.service.ledger import EntryDraft


class JobOrder(Protocol):
    """Whose job it is."""

    @property
    def model(self) -> str:
        """Inventory id."""
        ...

    @property
    def source(self) -> Source:
        """Which task asks."""
        ...


def examine_request(
    order: JobOrder,
    gov: Governance,
    terms: PlatformTerms,
    jobs: Jobs,
    key: str,
    request: Mapping[str, Any],
) -> None:
    """Hold a request as it would be sent against the model's pack, and put on record the outcome.

    Args:
        order: Whose job it is.
        gov: Ledger, inventory and packs.
        terms: The platform's entry.
        jobs: The platform, which says what the request and the account state.
        key: Name of the job.
        request: Rendered by the platform.

    Raises:
        ControlsRefusedError: A control failed, or could not be checked; a retry does not help.
        LedgerUnavailableError: The ledger cannot be reached; a retry may help.
    """
    pack = gov.pack_for(gov.model(order.model))
    results = _results(pack.platforms, jobs, request)
    failed = [each for each in results if each.verdict is not Verdict.PASSED]
    body = {
        "job": key,
        "platform": terms.name,
        "passed": not failed,
        "request_sha256": str(Digest.of(document_bytes(request))),
        "policy_sha256": str(pack.digest),
        "controls": [each.as_json() for each in results],
    }
    claim = str(Digest.of(canonical_bytes(body)))
    put_on_record(order, gov, "job.examined", body, key, claim)
    if failed:
        raise ControlsRefusedError(
            f"Policy pack {pack.id} forbids job {key} on platform {terms.name}: "
            f"{'; '.join(map(str, failed))}. Nothing was started.",
            remedy=f"Correct the entry {terms.name!r} ({terms.file}:{terms.line}) or the account; "
            "who owns the pack may change its section 'platforms'.",
        )


def put_on_record(
    order: JobOrder, gov: Governance, kind: str, body: dict[str, Any], *identity: str
) -> None:
    """Write an entry about a job of an order; the same again changes nothing."""
    draft = EntryDraft(
        kind=kind,
        model=order.model,
        version=None,
        body=body,
        identity=identity,
        source=order.source,
    )
    gov.ledger.append(draft)


def _results(
    rules: PlatformRules | None, jobs: Jobs, request: Mapping[str, Any]
) -> list[ControlResult]:
    if rules is None:
        return []
    return examine(rules, [*jobs.stated(request), *jobs.preflight(request)])
