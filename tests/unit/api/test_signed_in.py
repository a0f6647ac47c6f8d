from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

from airflow_mlgov.api.signed_in import roles_of


@pytest.mark.parametrize(
    ("user", "roles"),
    [
        (SimpleAuthManagerUser(username="rita", role="OP"), ("OP",)),
        (SimpleAuthManagerUser(username="rita", role=None), ()),
        # As the FAB auth manager's users are, which is not installed here.
        (
            SimpleNamespace(roles=[SimpleNamespace(name=n) for n in ("User", "Risk")]),
            ("Risk", "User"),
        ),
        (SimpleNamespace(get_id=lambda: "17"), ()),
    ],
)
def test_roles(user, roles) -> None:
    assert roles_of(user) == roles
