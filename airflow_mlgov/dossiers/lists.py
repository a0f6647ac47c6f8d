"""What the overview and the page of a model say; `airflow_mlgov.dossiers.pages` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_mlgov.dossiers.approval_form import SeatLine
from airflow_mlgov.dossiers.desk import Desk
from airflow_mlgov.dossiers.evidence import RequestState, StopLine
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Finding

if TYPE_CHECKING:
    from airflow_mlgov.policy.inventory import InventoryEntry


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A request in a list.

    Attributes:
        digest: Of the request.
        model: Inventory id.
        model_name: For people.
        number: The registry's number of the version.
        target: Environment.
        asked_at: When.
        asked_by: Who; empty if no person did.
        state: Where it stands.
        open_seats: Roles that are still open, each with who may fill it.
        decide_by: When it is denied if nobody has decided; None for never.
        is_reader_waited_for: Whether the reader may fill an open seat.
    """

    digest: Digest
    model: str
    model_name: str
    number: str
    target: str
    asked_at: datetime
    asked_by: str
    state: RequestState
    open_seats: Sequence[SeatLine]
    decide_by: datetime | None
    is_reader_waited_for: bool


@dataclass(frozen=True, slots=True)
class ModelLine:
    """A model in a list: the inventory's entry, and the stop in force."""

    entry: InventoryEntry
    stop: StopLine | None


@dataclass(frozen=True, slots=True)
class ModelPage:
    """A model and the requests for it.

    Attributes:
        model: The model.
        requests: Newest first.
        hidden: How many more there are of DAGs that the reader may not see.
        unread: Those that cannot be counted, because their policy pack cannot be read.
        findings: Open findings that the reader may settle, or see on a request's page.
        hidden_findings: How many more there are.
        read_at: When the page was made.
        desk: What the reader may do.
    """

    model: ModelLine
    requests: Sequence[RequestLine]
    hidden: int
    unread: Sequence[Digest]
    findings: Sequence[Finding]
    hidden_findings: int
    read_at: datetime
    desk: Desk


@dataclass(frozen=True, slots=True)
class Overview:
    """What waits, and every governed model.

    Attributes:
        reader: Name of who is signed in.
        waiting: Open requests, those that wait for the reader first, then the oldest first.
        models: In the inventory's order.
        hidden: How many more requests wait in DAGs that the reader may not see.
        unread: Requests that cannot be counted, because their policy pack cannot be read.
    """

    reader: str
    waiting: Sequence[RequestLine]
    models: Sequence[ModelLine]
    hidden: int
    unread: Sequence[Digest]
