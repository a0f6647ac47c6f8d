"""The gate: one task that waits for people, in Airflow's own Required Actions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import BaseNotifier
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowException, TaskAwaitingInput
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload, HITLDetailRequestResult

from airflow_mlgov.dossiers.approval_form import UNREAD_ANSWER, buttons
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.operators.approval_notice import (
    notice_of,
    result_of_emergency,
    subject_of,
)
from airflow_mlgov.operators.approval_runs import ApprovalRuns
from airflow_mlgov.operators.evidence_link import EvidenceLink
from airflow_mlgov.operators.gate_form import answer_of, form_fields
from airflow_mlgov.operators.run import governed_run, source_of, trigger_user

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_mlgov.records.governance import ApprovalRequest
    from airflow_mlgov.service.approvals import Standing
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.vote import Answer

_FORM_ARGUMENTS = (
    "subject",
    "body",
    "options",
    "defaults",
    "multiple",
    "params",
    "assigned_users",
    "response_timeout",
)
LEAST_RETRIES = 10
TIMER = "timeout"
"""Airflow's ``error_type`` when it wakes a parked task at the time that the task asked for."""


class ApprovalGateOperator(HITLOperator):
    """Ask the people whom the model's policy pack names, and wait until all seats are filled.

    The gate shows under Required Actions and holds no worker slot, trigger or pool slot while it
    waits. What it knows stands in the ledger, so clear, retry and restart resume it. One rejection
    ends it; there is no default answer and no approval by time-out. Votes are those that the
    api-server put on record under its own key (assurance L1); an answer that reaches the task
    without one counts only under a pack that accepts L0.

    Who may answer comes from the pack, as do the form's text and fields, and there is no deadline:
    the arguments by which HITLOperator sets these are refused. Airflow itself takes an answer from
    everybody who may answer forms; whether it is a vote, the pack says, which names people by
    user id or user name.

    A gate alone proves nothing to those behind it: PromoteModelOperator and ``@task.governed``
    count the votes again for themselves, so marking the gate as success by hand lets nobody
    through.

    Args:
        model: Id in the inventory. Templated.
        target: Environment to be approved for; one of the inventory entry's ``targets``. Templated.
        version: Manifest digest ``sha256:…`` to ask about; default: the candidate that
            TrainModelOperator registered in the same run. Templated.
        retries: At least 10; fewer, also from ``default_args``, become 10. Airflow fails a parked
            task with "state mismatch" if an answer overtakes the executor's report of the parking:
            that is no decision, so the gate must be able to try again, once for each such answer.
            A decision is never retried.
        retry_delay: 5 seconds by default.
        escalation_notifiers: Called besides ``notifiers`` from the day on that the pack's
            ``reminders`` name for it.
        **kwargs: Those of every operator, and ``notifiers``, which are called each time that the
            gate begins to wait: when it has asked, after each answer that leaves seats open, and on
            the days of the pack's ``reminders``. Their templates find ``mlgov`` in the context: see
            `notice_of`. ``execution_timeout`` limits the gate's work, not the waiting.

    Returns:
        XCom ``{"model", "version", "target", "request", "decision", "expires_at", "conditions"}``,
        for people; nothing decides on it.

    Raises:
        AirflowFailException: Evidence is missing, a High finding is open, or somebody rejected; a
            retry does not help.
        AirflowException: The ledger cannot be reached; retried by the gate itself.
        ConfigurationError: At construction: an argument that the gate does not take.
    """

    template_fields: Collection[str] = ("model", "target", "version")
    operator_extra_links = (EvidenceLink(),)
    # Inherited, so that the api-server knows a subclass for a gate (see service/changes).
    custom_operator_name = "ApprovalGateOperator"

    def __init__(
        self,
        *,
        model: str,
        target: str = "production",
        version: str | None = None,
        retries: int | None = LEAST_RETRIES,
        retry_delay: timedelta = timedelta(seconds=5),
        escalation_notifiers: Sequence[BaseNotifier] | BaseNotifier | None = None,
        **kwargs: Any,
    ) -> None:
        _refuse_form_arguments(kwargs)
        # Airflow hands the DAG's own params to every operator; they are no fields of this form.
        kwargs.pop("params", None)
        super().__init__(
            subject=f"Approve {model}?",
            body=None,
            options=buttons(with_conditions=False),
            defaults=None,
            multiple=False,
            params=form_fields(""),
            assigned_users=None,
            # Without one HITLOperator takes execution_timeout for the people's deadline.
            response_timeout=timedelta.max,
            retries=_enough(retries),
            retry_delay=retry_delay,
            **kwargs,
        )
        self.response_timeout = None
        self.model = model
        self.target = target
        self.version = version
        self.asked = ""
        escalation = escalation_notifiers or ()
        self.escalation_notifiers = (
            [escalation] if isinstance(escalation, BaseNotifier) else list(escalation)
        )

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Begin a mapped gate, with the same refusals and retries as one that is not mapped.

        Raises:
            ConfigurationError: An argument that the gate does not take.
        """
        _refuse_form_arguments(kwargs)
        begun = super().partial(**kwargs)
        begun.kwargs["retries"] = _enough(begun.kwargs["retries"])
        return begun

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, unless the same question was asked before; then go on from where its votes stand."""
        from airflow_mlgov.wiring import open_governance

        with governed_run():
            return self._ask(open_governance(), context)

    def execute_complete(self, context: Context, event: dict[str, Any], request: str = "") -> Any:
        """Take the answer that woke the task, count, and wait again while seats are open."""
        from airflow_mlgov.records.digest import Digest
        from airflow_mlgov.service.approvals import standing_of
        from airflow_mlgov.wiring import open_governance

        is_timer = event.get("error_type") == TIMER
        if "error" in event and not is_timer:
            raise AirflowException(f"Airflow could not hand over the answer: {event['error']}")
        with governed_run():
            gov, answer = open_governance(), None if is_timer else answer_of(event)
            standing = standing_of(gov, gov.ledger.view(), Digest.parse(request))
            if standing is None:
                return self._ask(gov, context)
            if answer is not None:
                self._take(gov, standing.request, answer, context)
            return self._count(gov, standing.request, context, answer, is_timer=is_timer)

    def _ask(self, gov: Governance, context: Context) -> dict[str, Any]:
        """Ask. An answer that an earlier try left unread still stands in the form, and counts."""
        from airflow_mlgov.service.request_approval import emergency_of, request_approval

        question = self._question(context)
        if glass := emergency_of(gov, question):
            self.log.warning("Somebody broke glass (%s): this asks nobody.", glass.id)
            return result_of_emergency(glass)
        runs = ApprovalRuns(self, context, gov)
        request = request_approval(gov, question, runs.kept_with)
        self.log.info("Request %s asks for version %s.", request.digest, request.version)
        runs.tell_request(request)
        return self._count(gov, request, context, None)

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

    def _count(
        self,
        gov: Governance,
        request: ApprovalRequest,
        context: Context,
        read: Answer | None,
        *,
        is_timer: bool = False,
    ) -> dict[str, Any]:
        """Open the form before counting: a vote cast in between is then found, not stranded."""
        from airflow_mlgov.policy.tally import Decision
        from airflow_mlgov.service.vote import count_votes

        while (unread := self._open_form(gov, request, context, read)) is not None:
            self._take(gov, request, unread, context)
            read = unread
        runs = ApprovalRuns(self, context, gov)
        try:
            standing = count_votes(gov, request, runs.kept_with_decision)
        finally:
            runs.tell_decision(request)
        for refused in standing.count.refused:
            self.log.warning("A vote was not counted: %s.", "; ".join(refused.reasons))
        for seat in standing.count.seats:
            self.log.info(
                "Seat %s: %d filled, %d open.", seat.seat.role, len(seat.votes), seat.open_count
            )
        if standing.decision is Decision.OPEN:
            self._wait(standing, context, is_timer=is_timer)
        return _result(standing)

    def _open_form(
        self, gov: Governance, request: ApprovalRequest, context: Context, read: Answer | None
    ) -> Answer | None:
        """Open the form anew; an answer in it that is not the one already read is returned."""
        from airflow_mlgov.dossiers.approval_form import body_of, headline_of
        from airflow_mlgov.service.approvals import standing_of
        from airflow_mlgov.service.describe import describe
        from airflow_mlgov.wiring import open_site

        self.asked = str(request.digest)
        view = gov.ledger.view()
        standing = standing_of(gov, view, request.digest)
        if standing is None or standing.decision.value != "open":
            return None
        form = describe(gov, standing, open_site().request(request.digest))
        self.subject, self.body = headline_of(form), body_of(form)
        self.options = buttons(with_conditions=standing.pack.conditions is not None)
        self.params = form_fields(
            str(request.digest),
            standing.pack,
            read.answered_at if read else None,
            view.checkpoint.size,
        )
        unread = _send_form(
            ti_id=context["ti"].id,
            options=self.options,
            subject=self.subject,
            body=self.body,
            defaults=None,
            multiple=False,
            params=self.serialized_params,
            # Airflow would compare user ids alone, and packs may state names: who is on no seat is
            # refused where the vote is put on record.
            assigned_users=[],
        )
        return answer_of(unread) if unread else None

    def _wait(self, standing: Standing, context: Context, *, is_timer: bool) -> NoReturn:
        """Tell the notifiers and park until somebody answers, or until there is more to do."""
        from airflow_mlgov.wiring import open_site

        page = open_site().request(standing.request.digest)
        notice = notice_of(standing, self._action_url(context), page, is_reminder=is_timer)
        context.update(mlgov=notice)  # type: ignore[call-arg]
        escalation = self.escalation_notifiers if standing.is_escalated else ()
        for notifier in (*self.notifiers, *escalation):
            try:
                notifier(context)
            except Exception:
                self.log.exception("A notifier failed; the gate waits all the same.")
        self.log.info("Waiting for the open seats, without a worker slot.")
        wake_at = standing.wake_at
        raise TaskAwaitingInput(
            method_name="execute_complete",
            kwargs={"request": str(standing.request.digest)},
            timeout=wake_at - standing.counted_at if wake_at else None,
        )

    def _action_url(self, context: Context) -> str:
        try:
            return str(self.generate_link_to_ui(task_instance=context["ti"]))
        except ValueError:  # [api] base_url is not set
            return ""


def _send_form(**form: Any) -> Mapping[str, Any] | None:
    """Open the form as Airflow's ``upsert_hitl_detail`` does, which drops the reply.

    Returns:
        The answer that stands in the form unread, if our middleware told of one.
    """
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    reply = SUPERVISOR_COMMS.send(CreateHITLDetailPayload.model_validate(form))
    fields = reply.params if isinstance(reply, HITLDetailRequestResult) else None
    told: Mapping[str, Any] | None = (
        (fields or {}).get("request", {}).get("schema", {}).get(UNREAD_ANSWER)
    )
    return told


def _refuse_form_arguments(kwargs: Mapping[str, Any]) -> None:
    """Refuse what would be without effect: an approval by time-out, other people, another text."""
    given = {name for name in _FORM_ARGUMENTS if name in kwargs}
    if "params" in given and not _own_params(kwargs["params"]):
        given.remove("params")
    if given:
        raise ConfigurationError(
            f"Gate {kwargs.get('task_id', '')!r} takes no {', '.join(sorted(given))}.",
            remedy="Who answers, what the form says and what an answer needs come from the model's "
            "policy pack; nothing is decided by a time-out.",
        )


def _own_params(params: Any) -> bool:
    """Whether params were given to the task itself, not only to its DAG."""
    if not isinstance(params, ParamsDict):
        return bool(params)
    return bool(ParamsDict.filter_params_by_source(params, source="task"))


def _enough(retries: int | None) -> int:
    return max(int(retries or 0), LEAST_RETRIES)


def _result(standing: Standing) -> dict[str, Any]:
    return {
        **subject_of(standing),
        "decision": standing.decision.value,
        "expires_at": standing.expires_at.isoformat() if standing.expires_at else None,
        "conditions": standing.count.conditions.as_json(),
    }
