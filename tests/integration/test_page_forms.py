"""The forms on the pages in Airflow's own api-server, under a base path, as browsers send them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RULES = """findings: {close: [victor], accept: [olivia], accept_max_days: 30}
break_glass: {users: [zoe], max_hours: 8, quorum: 1, confirm_within_days: 3}
valid_days:"""
SCRIPT = """
import html, json, re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from airflow import settings
from airflow.models.base import Base
from airflow.utils.db import import_all_models

import_all_models()
Base.metadata.create_all(settings.engine)

from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.testclient import TestClient

from airflow_mlgov.api.form_token import tokens_for
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import ApprovalRequest
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.service.request_approval import put_pack_on_record
from airflow_mlgov.wiring import open_governance

gov = open_governance()
pack = gov.pack_for(gov.model("retail_pd"))
put_pack_on_record(gov, gov.ledger.view(), pack)
VERSION = Digest.of(b"1")
SOURCE = Source("retail_pd", "r1", "gate", -1, 1)


def put(kind, body, *identity, **more):
    draft = EntryDraft(kind, "retail_pd", VERSION, body, identity, source=SOURCE, **more)
    gov.ledger.seal(gov.ledger.append(draft))


put("model.registered", {"registry": "mlflow", "version": "7", "variant": "candidate"}, "r")
asked = ApprovalRequest(
    "retail_pd", VERSION, "production", pack.digest, (), "retail_pd", "r1", "gate", -1
)
put(
    "approval.requested",
    {
        "request": asked.as_json(),
        "request_sha256": str(asked.digest),
        "policy_sha256": str(asked.policy),
        "target": asked.target,
        "evidence": [],
    },
    str(asked.digest),
    people={"requester": Person("erin", "erin")},
)
for number in range(4):
    put(
        "finding.opened",
        {
            "finding": f"F-0000000{number}",
            "severity": "medium",
            "test": "stability.psi",
            "due_at": "2099-01-01T00:00:00.000Z",
        },
        str(number),
        texts={"summary": "scores have moved"},
    )

MODEL, PAGE = "/airflow/mlgov/models/retail_pd", f"/airflow/mlgov/requests/{asked.digest}"
client = TestClient(create_app(apps="core"), follow_redirects=False)


def cookie(name):
    user = SimpleAuthManagerUser(username=name, role="USER")
    return {"Cookie": "_token=" + get_auth_manager().generate_jwt(user)}


COOKIES = {name: cookie(name) for name in ("victor", "olivia", "zoe", "erin")}
OURS = {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}


def page(who, path):
    return client.get(path, headers=COOKIES[who] | {"Accept": "text/html"}).text


def forms(who, path):
    found = {}
    for action, inside in re.findall(
        r'<form method="post" action="([^"]*)">(.*?)</form>', page(who, path), re.DOTALL
    ):
        fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', inside)
        found[html.unescape(action)] = {name: html.unescape(value) for name, value in fields}
    return found


said = {"offers": {}}


def entries():
    return [entry for entry in open_governance().ledger.view().select(model="retail_pd")]


def send(name, who, path, act, *, headers=OURS, change=None, **typed):
    action = MODEL + act
    fields = forms(who, path).get(action) if who else None
    if fields is None:  # no form is shown: sent by hand, with the token of another of the page
        fields = next(iter(forms(who or "victor", MODEL).values()))
    fields = {**fields, "reason": "because <b>it</b> is so", **typed, **(change or {})}
    fields = {key: value for key, value in fields.items() if value is not None}
    return post(name, who, action, fields, headers)


def post(name, who, action, fields, headers=OURS):
    before = len(entries())
    answer = client.post(action, data=fields, headers=headers | (COOKIES[who] if who else {}))
    after = entries()[before:]
    place = answer.headers.get("location", "")
    said[name] = {
        "status": answer.status_code,
        "headers": dict(answer.headers),
        "text": answer.text,
        "place": place,
        "written": [[e.kind, e.body, e.text("reason"), e.signed_by.value] for e in after],
        "people": [[p.id for p in [e.person(f) for f in e.people]] for e in after],
        "shown": page(who, place) if place.startswith("/airflow/mlgov/") else "",
        "shown_to_another": page("erin", place) if place.startswith("/airflow/mlgov/") else "",
    }
    return fields


for who in COOKIES:
    said["offers"][who] = [sorted(forms(who, MODEL)), sorted(forms(who, PAGE))]

F = "/close/F-0000000"
send("no token", "victor", PAGE, F + "0", change={"token": None})
stranger = next(iter(forms("zoe", MODEL).values()))["token"]
send("foreign token", "victor", PAGE, F + "0", change={"token": stranger})
late = tokens_for("victor", "retail_pd").make(datetime.now(UTC) - timedelta(hours=5), 1)
send("expired token", "victor", PAGE, F + "0", change={"token": late})
send("foreign site", "victor", PAGE, F + "0", headers={"Sec-Fetch-Site": "cross-site"})
send("foreign origin", "victor", PAGE, F + "0", headers={"Origin": "https://evil.example"})
send("no origin", "victor", PAGE, F + "0", headers={})
send("not signed in", None, PAGE, F + "0")
send("may not", "zoe", PAGE, F + "0")
send("developer", "erin", PAGE, F + "0")
send("no reason", "victor", PAGE, F + "0", reason="  \\n ")
send("long reason", "victor", PAGE, F + "0", reason="x" * 2001)
send("unknown finding", "victor", PAGE, "/close/F-ffffffff")
send("too long", "victor", PAGE, F + "0", reason="x" * 70_000)
action = MODEL + F + "0"
answer = client.post(action, json={"reason": "x"}, headers=OURS | COOKIES["victor"])
said["json"] = [answer.status_code, answer.text]
said["get"] = client.get(action, headers=COOKIES["victor"]).status_code
said["before"] = sorted({entry.kind for entry in entries()})

typed = send("close", "victor", PAGE, F + "0", reason="x" * 1998 + "\\r\\ny")
post("close again", "victor", action, typed)
send("close on the model's page", "victor", MODEL, F + "1", headers={"Origin": "http://testserver"})
A = "/accept/F-00000002"
today = datetime.now(UTC).date()
send("bad date", "olivia", PAGE, A, until="31.12.2026")
send("late date", "olivia", PAGE, A, until=str(today + timedelta(days=31)))
typed = send("accept", "olivia", PAGE, A, until=str(today + timedelta(days=30)))
post("accept again", "olivia", MODEL + A, typed)
typed = send("stop", "erin", MODEL, "/stop")
post("stop again", "erin", MODEL + "/stop", typed)
said["resumed by"] = [sorted(forms(who, MODEL)) for who in ("olivia", "zoe")]
send("resume by one who may not", "zoe", MODEL, "/resume")
typed = send("resume", "olivia", MODEL, "/resume")
post("resume again", "olivia", MODEL + "/resume", typed)
G = {"version": str(VERSION), "target": "production"}
send("break glass, no number", "zoe", MODEL, "/breakglass", **G, hours="many")
send("break glass for too long", "zoe", MODEL, "/breakglass", **G, hours="9")
send("break glass, may not", "victor", MODEL, "/breakglass", **G, hours="8")

fields = {**forms("zoe", MODEL)[MODEL + "/breakglass"], **G, "hours": "8", "reason": "it burns"}
before = len(entries())
with ThreadPoolExecutor(2) as pool:
    both = list(pool.map(
        lambda _: client.post(
            MODEL + "/breakglass", data=fields, headers=OURS | COOKIES["zoe"]
        ).status_code,
        range(2),
    ))
said["glass twice at once"] = [sorted(both), [e.kind for e in entries()[before:]]]
confirm = [a for a in forms("victor", MODEL) if "/confirm/" in a][0]
said["confirm offers"] = [[a for a in forms(w, MODEL) if "/confirm/" in a] for w in COOKIES]
send("confirm", "victor", PAGE, confirm.removeprefix(MODEL))
R = f"/revoke/{str(asked.digest).replace(':', '%3A')}"
send("revoke by one who may not", "zoe", MODEL, R)
send("revoke of nothing", "victor", MODEL, "/revoke/sha256%3A" + "0" * 64)
typed = send("revoke", "victor", MODEL, R)
post("revoke again", "victor", MODEL + R, typed)
say([said, MODEL, PAGE, str(asked.digest)])
"""


class Said:
    """What became of each form that the script sent."""

    def __init__(self, said: Any) -> None:
        self.by_name, self.model, self.page, self.request = said

    def of(self, name: str) -> dict[str, Any]:
        return self.by_name[name]


@pytest.fixture(scope="module")
def said(ask_airflow, tmp_path_factory: pytest.TempPathFactory) -> Said:
    folder = tmp_path_factory.mktemp("forms")
    (folder / "policy").mkdir()
    text = (ROOT / "dags" / "policy" / "retail_credit.yaml").read_text()
    changed = text.replace("\nvalid_days:", "\n" + RULES)
    assert changed != text
    (folder / "policy" / "retail_credit.yaml").write_text(changed)
    environment = {
        "AIRFLOW__API__BASE_URL": "http://testserver/airflow",
        "AIRFLOW__MLGOV__POLICY_PATH": str(folder / "policy"),
    }
    return Said(ask_airflow(SCRIPT, folder, environment))


def test_each_is_offered_what_the_pack_lets_them_do(said):
    model, page = said.model, said.page
    assert page.endswith(said.request)
    findings = [f"F-0000000{number}" for number in range(4)]
    close = [f"{model}/close/{finding}" for finding in findings]
    accept = [f"{model}/accept/{finding}" for finding in findings]
    revoke = f"{model}/revoke/{said.request.replace(':', '%3A')}"
    assert said.of("offers") == {
        "victor": [[*close, revoke, f"{model}/stop"], close],
        "olivia": [[*accept, revoke, f"{model}/stop"], accept],
        "zoe": [[f"{model}/breakglass", f"{model}/stop"], []],
        "erin": [[f"{model}/stop"], []],
    }


@pytest.mark.parametrize(
    ("name", "status", "problem"),
    [
        ("no token", 403, "not made for you"),
        ("foreign token", 403, "not made for you"),
        ("expired token", 403, "more than 4 hours"),
        ("foreign site", 403, "sent from another site"),
        ("foreign origin", 403, "sent from another site"),
        ("no origin", 403, "sent from another site"),
        ("not signed in", 401, "your session has ended"),
        ("may not", 403, "Those who may are: victor."),
        ("developer", 403, "Those who may are: victor."),
        ("no reason", 422, "Say why."),
        ("long reason", 422, "2001 characters. At most 2000."),
        ("unknown finding", 404, "has no finding"),
        ("too long", 422, "The form is too long."),
        ("close again", 409, "is closed already"),
        ("bad date", 422, "year-month-day"),
        ("late date", 403, "Name a day from"),
        ("accept again", 409, "You have done this since you opened the page: ledger entry"),
        ("stop again", 409, "You have done this since you opened the page: ledger entry"),
        ("resume by one who may not", 403, "neither the owner"),
        ("resume again", 409, "is not stopped"),
        ("break glass, no number", 422, "Write a whole number"),
        ("break glass for too long", 403, "Name 1 to 8."),
        ("break glass, may not", 403, "Those who may are: zoe."),
        ("revoke by one who may not", 403, "neither the owner"),
        ("revoke of nothing", 404, "holds no request"),
        ("revoke again", 409, "You have done this since you opened the page: ledger entry"),
    ],
)
def test_a_refusal_says_why_and_writes_nothing(said, name, status, problem):
    answer = said.of(name)
    assert (answer["status"], answer["written"]) == (status, [])
    assert problem in answer["text"]
    assert answer["headers"]["content-security-policy"].endswith("form-action 'self'")
    assert answer["headers"]["cache-control"] == "no-store"
    assert f'<a href="{said.model}' in answer["text"] or f'<a href="{said.page}' in answer["text"]


def test_what_was_typed_is_given_back_unless_another_site_typed_it(said):
    typed = "because &lt;b&gt;it&lt;/b&gt; is so"
    for name in ("no token", "not signed in", "may not", "bad date"):
        assert typed in said.of(name)["text"]
    for name in ("foreign site", "foreign origin", "no origin"):
        assert typed not in said.of(name)["text"]


def test_nothing_but_a_form_that_is_sent_does_anything(said):
    status, text = said.of("json")
    assert status == 422
    assert "This is no form." in text
    assert said.of("get") == 405
    assert said.of("before") == ["approval.requested", "finding.opened", "model.registered"]


@pytest.mark.parametrize(
    ("name", "who", "kind", "on", "told"),
    [
        ("close", "victor", "finding.closed", "page", "Finding F-00000000 is closed"),
        (
            *("close on the model's page", "victor", "finding.closed"),
            *("model", "Finding F-00000001 is closed"),
        ),
        ("accept", "olivia", "finding.accepted", "page", "The risk of finding F-00000002 is"),
        ("stop", "erin", "model.stopped", "model", "The model is stopped"),
        ("resume", "olivia", "model.resumed", "model", "The model may run again"),
        ("confirm", "victor", "breakglass.confirmed", "page", "Your confirmation is on record"),
        ("revoke", "victor", "approval.revoked", "model", "The approval is revoked"),
    ],
)
def test_what_is_done_is_on_record_and_said_on_the_page(said, name, who, kind, on, told):
    answer = said.of(name)
    ((written, _, reason, signed_by),) = answer["written"]
    assert (answer["status"], written, signed_by) == (303, kind, "attestor")
    assert answer["people"] == [[who]]
    assert reason == ("x" * 1998 + "\ny" if name == "close" else "because <b>it</b> is so")
    assert answer["headers"]["cache-control"] == "no-store"
    place, _, entry = answer["place"].partition("?done=")
    assert place == (said.page if on == "page" else said.model)
    assert told in answer["shown"]
    assert f"ledger entry {entry}." in answer["shown"]
    assert f"ledger entry {entry}." not in answer["shown_to_another"] or who == "erin"


def test_an_accepted_finding_is_shown_with_its_reason(said):
    shown = said.of("accept")["shown"]
    assert "risk accepted until" in shown
    assert "because &lt;b&gt;it&lt;/b&gt; is so" in shown


def test_a_stopped_model_is_resumed_by_those_who_may(said):
    olivia, zoe = said.of("resumed by")
    assert f"{said.model}/resume" in olivia
    assert f"{said.model}/resume" not in zoe


def test_glass_is_broken_once_by_a_form_that_is_sent_twice_at_once(said):
    assert said.of("glass twice at once") == [[303, 409], ["breakglass.used"]]


def test_glass_is_confirmed_by_those_who_may(said):
    victor, olivia, zoe, erin = said.of("confirm offers")
    assert (len(victor), len(olivia), zoe, erin) == (1, 1, [], [])
