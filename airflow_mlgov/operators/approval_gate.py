"""The gate: one task that waits for people, in Airflow's own Required Actions."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowException, TaskAwaitingInput
from airflow.sdk.execution_time.hitl import HITLUser, upsert_hitl_detail

from airflow_mlgov.operators.approval_runs import ApprovalRuns
from airflow_mlgov.operators.run import governed_run, source_of, trigger_user
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.people import Person

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.records.governance import ApprovalRequest
    from airflow_mlgov.service.approvals import Standing
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.vote import Answer

APPROVE = "Approve"
REJECT = "Reject"
_CHOICES = {APPROVE: Choice.APPROVE, REJECT: Choice.REJECT}


class ApprovalGateOperator(HITLOperator):
    """Ask the people whom the model's policy pack names, and wait until all seats are filled.

    The gate shows under Required Actions and holds no worker slot, trigger or pool slot while it
    waits. What it knows stands in the ledger, so clear, retry and restart resume it. One rejection
    ends it; there is no default answer and no approval by time-out. Votes are taken from the answer
    that Airflow records (assurance L0).

    A gate alone proves nothing to those behind it: PromoteModelOperator and ``@task.governed``
    count the votes again for themselves, so marking the gate as success by hand lets nobody
    through.

    Args:
        model: Id in the inventory. Templated.
        target: Environment to be approved for; one of the inventory entry's ``targets``. Templated.
        version: Manifest digest ``sha256:…`` to ask about; default: the candidate that
            TrainModelOperator registered in the same run. Templated.

    Returns:
        XCom ``{"model", "version", "target", "request", "decision", "expires_at"}``, for people;
        nothing decides on it.

    Raises:
        AirflowFailException: Evidence is missing, a High finding is open, or somebody rejected; a
            retry does not help.
        AirflowException: The ledger cannot be reached; retried by the gate itself (``retries``, 3
            by default).
    """

    template_fields: Collection[str] = ("model", "target", "version")

    def __init__(
        self, *, model: str, target: str = "production", version: str | None = None, **kwargs: Any
    ) -> None:
        # Airflow fails a parked task with "state mismatch" if an answer overtakes the executor's
        # report of the parking: that is no decision, so the gate tries again. A decision is never
        # retried.
        kwargs.setdefault("retries", 3)
        kwargs.setdefault("retry_delay", timedelta(seconds=5))
        # Airflow hands the DAG's own params to every operator; they are no fields of this form.
        kwargs.pop("params", None)
        super().__init__(
            subject=f"Approve {model}?",
            options=[APPROVE, REJECT],
            params=_form_fields("", 0),
            **kwargs,
        )
        self.model = model
        self.target = target
        self.version = version

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, unless the same question was asked before; then go on from where its votes stand."""
        from airflow_mlgov.service.request_approval import request_approval
        from airflow_mlgov.wiring import open_governance

        with governed_run():
            gov = open_governance()
            request = request_approval(gov, self._question(context))
            self.log.info("Request %s asks for version %s.", request.digest, request.version)
            ApprovalRuns(self, context, gov).tell_request(request)
            for answer in _unread_answer(context):
                self._take(gov, request, answer, context)
            return self._count(gov, request, context)

    def execute_complete(self, context: Context, event: dict[str, Any], request: str = "") -> Any:
        """Take the answer that woke the task, count, and wait again while seats are open."""
        from airflow_mlgov.records.digest import Digest
        from airflow_mlgov.service.approvals import standing_of
        from airflow_mlgov.wiring import open_governance

        if "error" in event:
            raise AirflowException(f"Airflow could not hand over the answer: {event['error']}")
        with governed_run():
            gov = open_governance()
            standing = standing_of(gov, gov.ledger.view(), Digest.parse(request))
            if standing is None:
                return self.execute(context)
            self._take(gov, standing.request, _answer_of(event), context)
            return self._count(gov, standing.request, context)

    def _question(self, context: Context) -> Any:
        from airflow_mlgov.records.digest import Digest
        from airflow_mlgov.service.request_approval import Question

        version = Digest.parse(self.version) if self.version else None
        return Question(self.model, self.target, version, source_of(context), trigger_user(context))

    def _take(
        self, gov: Governance, request: ApprovalRequest, answer: Answer, context: Context
    ) -> None:
        from airflow_mlgov.service.vote import record_answer

        record_answer(gov, request, answer, source_of(context))

    def _count(self, gov: Governance, request: ApprovalRequest, context: Context) -> dict[str, Any]:
        """Open the form before counting: a vote cast in between is then found, not stranded."""
        from airflow_mlgov.policy.tally import Decision
        from airflow_mlgov.service.vote import count_votes

        self._open_form(gov, request, context)
        try:
            standing = count_votes(gov, request)
        finally:
            ApprovalRuns(self, context, gov).tell_decision(request)
        for refused in standing.count.refused:
            self.log.warning("A vote was not counted: %s.", "; ".join(refused.reasons))
        for seat in standing.count.seats:
            self.log.info(
                "Seat %s: %d filled, %d open.", seat.seat.role, len(seat.votes), seat.open_count
            )
        if standing.decision is Decision.OPEN:
            self._wait(request)
        return _result(standing)

    def _open_form(self, gov: Governance, request: ApprovalRequest, context: Context) -> None:
        from airflow_mlgov.dossiers.approval_form import body_of, subject_of
        from airflow_mlgov.service.approvals import standing_of
        from airflow_mlgov.service.describe import describe

        standing = standing_of(gov, gov.ledger.view(), request.digest)
        if standing is None or standing.decision.value != "open":
            return
        form = describe(gov, standing)
        self.subject, self.body = subject_of(form), body_of(form)
        self.params = _form_fields(str(request.digest), standing.pack.comment_min_length)
        self.assigned_users = [HITLUser(id=user, name=user) for user in standing.pack.users]
        upsert_hitl_detail(
            ti_id=context["ti"].id,
            options=self.options,
            subject=self.subject,
            body=self.body,
            defaults=None,
            multiple=False,
            params=self.serialized_params,
            assigned_users=self.assigned_users,
        )

    def _wait(self, request: ApprovalRequest) -> NoReturn:
        self.log.info("Waiting for the open seats, without a worker slot.")
        raise TaskAwaitingInput(
            method_name="execute_complete", kwargs={"request": str(request.digest)}
        )


def _form_fields(request: str, comment_min_length: int) -> ParamsDict:
    return ParamsDict(
        {
            "comment": Param(
                "",
                type="string",
                title="Comment",
                description=f"Why; at least {comment_min_length} characters.",
                format="multiline",
            ),
            "request": Param(
                request,
                type="string",
                title="Request digest",
                description="What this form is about. Leave it as it is: a vote that names "
                "another digest is refused.",
            ),
        }
    )


def _unread_answer(context: Context) -> list[Answer]:
    """Return the answer that an earlier try of this task left unread, if there is one."""
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail

    if context["ti"].try_number <= 1:
        return []
    try:
        left = get_hitl_detail_content_detail(ti_id=context["ti"].id)
    except AirflowRuntimeError:
        return []  # no form was opened before
    if not left.response_received or not left.chosen_options:
        return []
    return [_answer_of({**left.model_dump(), "chosen_options": list(left.chosen_options)})]


def _answer_of(event: dict[str, Any]) -> Answer:
    from airflow_mlgov.service.vote import Answer

    fields = event.get("params_input") or {}
    user = event.get("responded_by_user")
    answered_at = event["responded_at"]
    if isinstance(answered_at, str):
        answered_at = datetime.fromisoformat(answered_at)
    return Answer(
        choice=_CHOICES[event["chosen_options"][0]],
        request=str(fields.get("request", "")),
        comment=str(fields.get("comment", "")),
        person=Person(str(user["id"]), str(user["name"])) if user else None,
        answered_at=answered_at,
    )


def _result(standing: Standing) -> dict[str, Any]:
    return {
        "model": standing.request.model,
        "version": str(standing.request.version),
        "target": standing.request.target,
        "request": str(standing.request.digest),
        "decision": standing.decision.value,
        "expires_at": standing.expires_at.isoformat() if standing.expires_at else None,
    }
