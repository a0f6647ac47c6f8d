"""What the forms on the pages do: what the JSON routes do, by the same functions.

A form names what is done in its address and holds the reason, the token of the page that it stood
on (`airflow_mlgov.api.form_token`), and the request on whose page it stood.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl

from airflow_mlgov.api.form_token import ForeignFormError, check_origin, tokens_for
from airflow_mlgov.api.signed_in import SIGN_IN, person_of, user_of
from airflow_mlgov.api.statuses import status_of
from airflow_mlgov.dossiers.site import Site
from airflow_mlgov.errors import (
    ArtefactError,
    MlgovError,
    NotInForceError,
    UnknownSubjectError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.approvals import request_on_record
from airflow_mlgov.service.desk import done_since
from airflow_mlgov.service.settle_finding import accept_finding, close_finding
from airflow_mlgov.service.stop import MAX_REASON, resume_model, revoke_approval, stop_model
from airflow_mlgov.service.use_break_glass import (
    Emergency,
    confirm_break_glass,
    use_break_glass,
)

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_mlgov.service.governance import Governance

MAX_FORM_BYTES = 64 * 1024
_TURN = threading.Lock()  # sent twice at once, the second is held against what the first has done
log = logging.getLogger(__name__)


class MistypedError(MlgovError):
    """A field of a form cannot be read; a retry does not help."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A form that came back from who was given it.

    Attributes:
        gov: The rules as they stand now.
        person: Who sent it.
        model: Inventory id.
        about: The finding or request that the address names; empty if it names none.
        fields: What was typed, by name.
        size: Ledger entries that the page was made from.
    """

    gov: Governance
    person: Person
    model: str
    about: str
    fields: Mapping[str, str]
    size: int

    @property
    def reason(self) -> str:
        """Why."""
        reason = self.fields.get("reason", "").strip()
        if not reason:
            raise MistypedError("There is no reason.", remedy="Say why.")
        if len(reason) > MAX_REASON:
            raise MistypedError(
                f"The reason has {len(reason)} characters.", remedy=f"At most {MAX_REASON}."
            )
        return reason

    def refuse_repeated(self, kind: str, said: str = "") -> None:
        """Refuse what the same person has done since the page was opened.

        Args:
            kind: Of the ledger entry that it writes.
            said: What stands in the entry and must be the same, too; empty for nothing.

        Raises:
            NotInForceError: It is done; a retry does not help.
        """
        after = done_since(self.gov.ledger.view(), self.model, self.person, kind, self.size)
        same = [entry.index for entry in after if not said or said in entry.body.values()]
        if same:
            raise NotInForceError(
                f"You have done this since you opened the page: ledger entry {same[-1]}.",
                remedy="Nothing is left to do. To do it once more, open the page again.",
            )


def _stop(sent: Sent) -> int:
    sent.refuse_repeated("model.stopped")
    role = KeyRole.ATTESTOR
    return stop_model(sent.gov, sent.model, sent.reason, sent.person, role=role).index


def _resume(sent: Sent) -> int:
    return resume_model(sent.gov, sent.model, sent.reason, sent.person).index


def _revoke(sent: Sent) -> int:
    request = _digest(sent.about, "request")
    if request_on_record(sent.gov.ledger.view(), request).model != sent.model:
        raise UnknownSubjectError(f"Model {sent.model!r} has no request {request}.")
    sent.refuse_repeated("approval.revoked", str(request))
    return revoke_approval(sent.gov, request, sent.reason, sent.person).index


def _close(sent: Sent) -> int:
    return close_finding(sent.gov, sent.model, sent.about, sent.reason, sent.person).index


def _accept(sent: Sent) -> int:
    try:
        until = date.fromisoformat(sent.fields.get("until", ""))
    except ValueError as error:
        raise MistypedError(
            "The day until which the risk is accepted is none.",
            remedy="Write it as year-month-day: 2026-12-31.",
        ) from error
    sent.refuse_repeated("finding.accepted", sent.about)
    return accept_finding(
        sent.gov, sent.model, sent.about, sent.reason, sent.person, until=until
    ).index


def _break(sent: Sent) -> int:
    hours = sent.fields.get("hours", "")
    if not (hours.isascii() and hours.isdecimal() and len(hours) < 6):
        raise MistypedError("The hours are no number.", remedy="Write a whole number, as 8.")
    version = _digest(sent.fields.get("version", ""), "version")
    emergency = Emergency(sent.model, version, sent.fields.get("target", ""), int(hours))
    sent.refuse_repeated("breakglass.used")
    return use_break_glass(sent.gov, emergency, sent.reason, sent.person).entry.index


def _confirm(sent: Sent) -> int:
    glass = confirm_break_glass(sent.gov, sent.model, sent.about, sent.reason, sent.person)
    return max(entry.index for entry in glass.confirmations.values())


_Act: TypeAlias = Callable[[Sent], int]

ACTS: Mapping[str, _Act] = {
    "/stop": _stop,
    "/resume": _resume,
    "/revoke/{about}": _revoke,
    "/close/{about}": _close,
    "/accept/{about}": _accept,
    "/breakglass": _break,
    "/confirm/{about}": _confirm,
}
"""What is done, by the end of the address under the page of a model; each gives its entry."""


def _digest(text: str, what: str) -> Digest:
    try:
        return Digest.parse(text)
    except ArtefactError as error:
        raise MistypedError(
            f"The form names no {what}.", remedy="Send it from the page, as it is."
        ) from error


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a form.

    Attributes:
        back: The page that it stood on.
        entry: The ledger entry that it made; None if it was refused.
        status: HTTP status of a refusal.
        title: Of the page that says so.
        problem: Why it was refused.
        typed: The reason as it was typed, if it is to be given back.
    """

    back: str
    entry: int | None = None
    status: int = 303
    title: str = "This was not done"
    problem: str = ""
    typed: str = ""


def receive(act: _Act) -> Callable[[Request, Site], Awaitable[Outcome]]:
    """Return what takes a form in and does what it says."""

    async def answer(request: Request, site: Site) -> Outcome:
        back, typed = site.model(request.path_params["model"]), ""
        try:
            check_origin(request.headers, _base_url())
            fields = await _fields(request)
            back, typed = _page(fields, back, site), fields.get("reason", "")
            user = await user_of(request.scope)
            if user is None:
                return Outcome(back, None, 401, "Sign in again", SIGN_IN["detail"], typed)
            entry = await asyncio.to_thread(_done, act, request, person_of(user), fields)
        except MlgovError as error:
            status = _status(error)
            if status >= 500:
                log.exception("What a form asked for was not done.")
            return Outcome(back, None, status, problem=str(error), typed=typed)
        return Outcome(back, entry)

    return answer


def _done(act: _Act, request: Request, person: Person, fields: Mapping[str, str]) -> int:
    from airflow_mlgov.wiring import open_governance

    model, about = request.path_params["model"], request.path_params.get("about", "")
    gov = open_governance()
    size = tokens_for(person.id, model).check(fields.get("token", ""), gov.clock.now())
    # A stop waits for nobody: each form is held until a checkpoint covers what it did.
    with nullcontext() if act is _stop else _TURN:
        return act(Sent(gov, person, model, about, fields, size))


async def _fields(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise MistypedError("This is no form.", remedy="Programs use the routes under /mlgov/api/.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise MistypedError("The form is too long.", remedy="Say it shorter.")
    try:
        pairs = parse_qsl(body.decode("ascii", "replace"), True, max_num_fields=20)
    except ValueError as error:
        raise MistypedError("The form has too many fields.") from error
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def _page(fields: Mapping[str, str], model: str, site: Site) -> str:
    """Return the page that a form stood on: a request's, if it names one, else the model's."""
    try:
        return site.request(Digest.parse(fields.get("request", "")))
    except ArtefactError:
        return model


def _base_url() -> str:
    from airflow_mlgov.wiring import open_site

    return open_site().root


def _status(error: MlgovError) -> int:
    if isinstance(error, ForeignFormError):
        return 403
    return 422 if isinstance(error, MistypedError) else status_of(error)
