"""The fields of a gate's form, and what Airflow hands back of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from airflow_mlgov.dossiers.approval_form import ANSWER_READ, CHOICES, COUNTED
from airflow_mlgov.dossiers.condition_fields import condition_fields, conditions_in
from airflow_mlgov.records.conditions import NO_CONDITIONS
from airflow_mlgov.records.people import Person

if TYPE_CHECKING:
    from airflow_mlgov.policy.pack import PolicyPack
    from airflow_mlgov.service.vote import Answer


def form_fields(
    request: str, pack: PolicyPack | None = None, read_at: datetime | None = None, counted: int = 0
) -> ParamsDict:
    """Return the fields of a gate's form.

    Args:
        request: Digest of the request that it is about; empty before there is one.
        pack: The pack that the request names; None before there is one.
        read_at: When the last answer was given that the gate has taken; None if it has taken none.
        counted: Ledger entries that the gate had read.
    """
    about = Param(
        request,
        type="string",
        title="Request digest",
        description="What this form is about. Leave it as it is: a vote that names another digest "
        "is refused.",
    )
    about.schema |= {ANSWER_READ: read_at.isoformat() if read_at else "", COUNTED: counted}
    least = pack.comment_min_length if pack else 0
    conditions = condition_fields(pack.conditions if pack else None)
    return ParamsDict(
        {
            "comment": Param(
                "",
                type="string",
                title="Comment",
                description=f"Why; at least {least} characters.",
                format="multiline",
            ),
            **{name: Param(**field) for name, field in conditions.items()},
            "request": about,
        }
    )


def answer_of(event: Mapping[str, Any]) -> Answer:
    """Return what Airflow recorded; what is no answer of this form has no choice."""
    from airflow_mlgov.service.vote import Answer

    sent = event.get("params_input")
    fields: Mapping[str, Any] = sent if isinstance(sent, Mapping) else {}
    request, comment = fields.get("request", ""), fields.get("comment", "")
    chosen = list(event.get("chosen_options") or ())
    try:
        conditions = conditions_in(fields)
    except ValueError:
        conditions = None
    is_ours = len(chosen) == 1 and isinstance(request, str) and isinstance(comment, str)
    choice = CHOICES.get(str(chosen[0])) if is_ours else None
    if conditions is None and choice is not None and choice.is_approval:
        choice = None
    user = event.get("responded_by_user")
    answered_at = event["responded_at"]
    if isinstance(answered_at, str):
        answered_at = datetime.fromisoformat(answered_at)
    return Answer(
        choice=choice,
        request=request if isinstance(request, str) else "",
        comment=comment if isinstance(comment, str) else "",
        person=Person(str(user["id"]), str(user["name"])) if user else None,
        answered_at=answered_at,
        conditions=conditions or NO_CONDITIONS,
    )
