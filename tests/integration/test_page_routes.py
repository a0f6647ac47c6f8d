"""The pages in Airflow's own api-server: its users, its permissions, its cookie, a real ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
AUTH_MANAGER = """
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class HouseAuthManager(SimpleAuthManager):
    '''Keeps rita out of one DAG, as an auth manager with permissions by DAG does.'''

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        if user.get_id() == "rita" and details and details.id == "secret":
            return False
        return super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )
"""
SCRIPT = """
import json, sys
from pathlib import Path

from airflow import settings
from airflow.models.base import Base
from airflow.utils.db import import_all_models

import_all_models()
Base.metadata.create_all(settings.engine)

from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.testclient import TestClient

from airflow_mlgov.records.governance import ApprovalRequest
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.service.request_approval import put_pack_on_record
from airflow_mlgov.wiring import open_governance

gov = open_governance()
pack = gov.pack_for(gov.model("retail_pd"))
put_pack_on_record(gov, gov.ledger.view(), pack)
lost = Digest.of(b"a document that nobody kept")


def ask(dag, version):
    request = ApprovalRequest(
        "retail_pd", Digest.of(version), "production", pack.digest,
        (("model.validated", lost),), dag, "r1", "gate", -1,
    )
    draft = EntryDraft(
        "approval.requested", "retail_pd", request.version,
        {
            "request": request.as_json(),
            "request_sha256": str(request.digest),
            "policy_sha256": str(request.policy),
            "target": request.target,
            "evidence": [["model.validated", str(lost)]],
        },
        (str(request.digest),),
        people={"requester": Person("erin", "erin")},
        source=Source(dag, "r1", "gate", -1, 1),
    )
    gov.ledger.seal(gov.ledger.append(draft))
    return str(request.digest)


digests = {"open": ask("retail_pd", b"1"), "secret": ask("secret", b"2")}
client = TestClient(create_app(apps="core"), follow_redirects=False)


def token(name, role):
    user = SimpleAuthManagerUser(username=name, role=role)
    return get_auth_manager().generate_jwt(user)


TOKENS = {"rita": token("rita", "USER"), "victor": token("victor", "VIEWER")}
BEARER = {name: {"Authorization": f"Bearer {value}"} for name, value in TOKENS.items()}
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
SENT = {
    "": {},
    "browser": BROWSER,
    "cookie": {**BROWSER, "Cookie": "_token=" + TOKENS["rita"]},
    "ended": {**BROWSER, "Cookie": "_token=" + TOKENS["rita"][:-6] + "AAAAAA"},
    **BEARER,
}
before = gov.ledger.view().leaves[:]
answers = []
for who, method, path in json.load(sys.stdin):
    for name, digest in digests.items():
        path = path.replace("{" + name + "}", digest)
    said = client.request(method, path, headers=SENT[who])
    answers.append([said.status_code, dict(said.headers), said.text])
unchanged = gov.ledger.view().leaves == before and not gov.ledger.inbox()
say([answers, unchanged, digests])
"""
PATHS = ["/mlgov/", "/mlgov/models/retail_pd", "/mlgov/requests/{open}"]
ASKED: list[tuple[str, str, str]] = [
    *(("", "GET", path) for path in PATHS),
    *(("browser", "GET", path) for path in PATHS),
    *(("rita", "GET", path) for path in PATHS),
    ("ended", "GET", "/mlgov/"),
    ("cookie", "GET", "/mlgov/requests/{open}"),
    ("rita", "GET", "/mlgov/requests/{secret}"),
    ("victor", "GET", "/mlgov/requests/{secret}"),
    ("victor", "GET", "/mlgov/"),
    ("rita", "GET", "/mlgov/requests/sha256:" + "0" * 64),
    ("rita", "GET", "/mlgov/requests/<script>alert(1)<%2Fscript>"),
    ("rita", "GET", "/mlgov/models/<script>alert(1)<%2Fscript>"),
    ("rita", "POST", "/mlgov/requests/{open}"),
    ("rita", "HEAD", "/mlgov/requests/{open}"),
]


class Answers:
    """What the api-server said to `ASKED`."""

    def __init__(self, said: list[Any]) -> None:
        self._answers, self.unchanged, self.digests = said

    def of(self, *asked: str) -> tuple[int, dict[str, str], str]:
        status, headers, text = self._answers[ASKED.index(asked)]  # type: ignore[arg-type]
        return status, headers, text


@pytest.fixture(scope="module")
def answers(ask_airflow, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "house_auth.py").write_text(AUTH_MANAGER)
    environment = {"AIRFLOW__CORE__AUTH_MANAGER": "house_auth.HouseAuthManager"}
    return Answers(ask_airflow(SCRIPT, folder, environment, ASKED))


@pytest.mark.parametrize("path", PATHS)
def test_a_program_without_a_token_is_told_so(answers, path):
    status, headers, text = answers.of("", "GET", path)
    assert (status, json.loads(text)) == (401, {"detail": "Sign in again: your session has ended."})
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PATHS)
def test_a_browser_is_led_to_airflows_sign_in_and_back(answers, path):
    status, headers, text = answers.of("browser", "GET", path)
    back = path.replace("{open}", answers.digests["open"]).replace("/", "%2F").replace(":", "%3A")
    assert (status, text) == (302, "")
    assert headers["location"] == f"/api/v2/auth/login?next={back}"


def test_a_session_that_does_not_verify_is_none(answers):
    assert answers.of("ended", "GET", "/mlgov/")[0] == 302


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_served_under_a_policy_that_lets_nothing_else_in(answers, path):
    status, headers, text = answers.of("rita", "GET", path)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy.pop("style-src").startswith("'sha256-")
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "frame-ancestors": "'self'",
        "base-uri": "'none'",
        "form-action": "'self'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "Retail credit card probability of default" in text


def test_the_cookie_of_airflows_own_pages_will_do(answers):
    status, _, text = answers.of("cookie", "GET", PATHS[2])
    assert status == 200
    assert "for <bdi>production</bdi>?" in text


def test_a_document_that_is_not_there_is_an_error_on_the_page(answers):
    text = answers.of("rita", "GET", PATHS[2])[2]
    assert "Do not decide on this page yet: 1 of 1" in text
    assert "✗ error" in text
    assert "is missing" in text


def test_who_may_not_read_the_dag_sees_nothing_of_the_request(answers):
    asked = ("GET", "/mlgov/requests/{secret}")
    status, _, text = answers.of("rita", *asked)
    assert status == 403
    assert "You may not read DAG" in text
    assert "retail_pd" not in text
    assert answers.of("victor", *asked)[0] == 200


def test_lists_hold_what_the_reader_may_read(answers):
    secret = answers.digests["secret"]
    for path in PATHS[:2]:
        text = answers.of("rita", "GET", path)[2]
        assert secret not in text
        assert answers.digests["open"] in text
        assert "1 more in DAGs that you may not read." in text
    text = answers.of("victor", "GET", "/mlgov/")[2]
    assert secret in text
    assert "more in DAGs" not in text


def test_what_waits_for_the_reader_is_marked(answers):
    assert "waits for you" in answers.of("victor", "GET", "/mlgov/")[2]
    assert "waits for you" not in answers.of("rita", "GET", "/mlgov/")[2]


@pytest.mark.parametrize("path", [path for who, _, path in ASKED if "0000" in path or "<" in path])
def test_what_nobody_knows_is_not_found(answers, path):
    status, headers, text = answers.of("rita", "GET", path)
    assert status == 404
    if headers["content-type"].startswith("text/html"):
        assert "content-security-policy" in headers
        assert "<script" not in text


def test_pages_are_only_looked_at(answers):
    assert answers.of("rita", "POST", PATHS[2])[0] == 405
    status, headers, _ = answers.of("rita", "HEAD", PATHS[2])
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert answers.unchanged
