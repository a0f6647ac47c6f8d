"""Who is signed in, and what they may read, as Airflow's api-server tells it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from airflow_mlgov.records.people import Person

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from starlette.types import Scope

SIGN_IN = {"detail": "Sign in again: your session has ended."}


async def user_of(scope: Scope) -> BaseUser | None:
    """Return who is signed in, told in Airflow's own order: a token in the header, then the cookie.

    A user whom an inner middleware of Airflow would still let in with an ended session is nobody.
    """
    from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
    from airflow.api_fastapi.core_api.security import resolve_user_from_token
    from fastapi import HTTPException
    from starlette.requests import Request

    request = Request(scope)
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        token = request.cookies.get(COOKIE_NAME_JWT_TOKEN, "")
    try:
        return await resolve_user_from_token(token.strip())
    except HTTPException:
        return None


def may_read(user: BaseUser) -> Callable[[str], bool]:
    """Return what tells whether a user may read a DAG, as Airflow's auth manager says."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
    from airflow.models import DagModel

    @cache
    def asked(dag_id: str) -> bool:
        details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
        return get_auth_manager().is_authorized_dag(method="GET", details=details, user=user)

    return asked


def person_of(user: BaseUser) -> Person:
    """Return who is signed in, as the ledger names people."""
    return Person(str(user.get_id()), str(user.get_name()))


def roles_of(user: BaseUser) -> tuple[str, ...]:
    """Return the names of a user's roles, sorted; none where the auth manager has no roles.

    SimpleAuthManager knows one role a user, by name; the FAB auth manager a list of roles.
    """
    one = getattr(user, "role", None)
    several = getattr(user, "roles", None) or ()
    return tuple(sorted({str(getattr(role, "name", role)) for role in (one, *several) if role}))
