"""What notifiers learn of a gate that waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlgov.service.approvals import Standing
    from airflow_mlgov.service.break_glass import BreakGlass


def notice_of(
    standing: Standing, action_url: str, evidence_url: str, *, is_reminder: bool
) -> dict[str, Any]:
    """Return what notifiers are told about a request that waits, under ``mlgov`` in the context.

    Args:
        standing: Where it stands.
        action_url: Where it is answered in Airflow; empty if Airflow does not know its address.
        evidence_url: Its evidence page; just the path if Airflow does not know its address.
        is_reminder: Whether a day of the pack's reminders is the occasion, and no answer.

    Returns:
        ``model``, ``version``, ``target``, ``request``, ``action_url``, ``evidence_url``;
        ``open_seats``: a list of ``{"role", "open", "who_may"}``; ``decide_by`` (ISO 8601, or
        None), ``is_reminder``, ``is_escalated`` and ``escalate_to``: whom the pack names for that.
    """
    reminders = standing.pack.reminders
    return {
        **subject_of(standing),
        "action_url": action_url,
        "evidence_url": evidence_url,
        "open_seats": [
            {
                "role": seat.seat.role,
                "open": seat.open_count,
                "who_may": list(standing.may_still_fill(seat.seat)),
            }
            for seat in standing.count.open_seats
        ],
        "decide_by": standing.decide_by.isoformat() if standing.decide_by else None,
        "is_reminder": is_reminder,
        "is_escalated": standing.is_escalated,
        "escalate_to": list(reminders.escalate_to) if reminders else [],
    }


def subject_of(standing: Standing) -> dict[str, str]:
    """Return what a request is about."""
    return {
        "model": standing.request.model,
        "version": str(standing.request.version),
        "target": standing.request.target,
        "request": str(standing.request.digest),
    }


def result_of_emergency(glass: BreakGlass) -> dict[str, Any]:
    """Return what a gate says that asked nobody, since somebody broke glass."""
    return {
        "model": glass.entry.model,
        "version": str(glass.entry.version),
        "target": glass.target,
        "request": None,
        "decision": "emergency",
        "expires_at": glass.until.isoformat(),
    }
