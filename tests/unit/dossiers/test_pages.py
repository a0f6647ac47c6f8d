"""What the pages say, and that nothing in a name, comment or document can say more than itself."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser

import pytest

from airflow_mlgov.dossiers.desk import Desk
from airflow_mlgov.dossiers.evidence import RequestState
from airflow_mlgov.dossiers.pages import (
    MAX_TEXT,
    content_security_policy,
    visible,
    write_evidence_page,
    write_model_page,
    write_problem,
)
from airflow_mlgov.dossiers.site import Site
from airflow_mlgov.records.digest import Digest

PAGES = ("evidence", "model", "overview", "problem")
HOSTILE = [
    "<script>alert(1)</script>",
    "</td></tr></table><h1>Approved</h1>",
    "</title></style></svg><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' autofocus onfocus='alert(1)",
    "{{ 7 * 7 }}{% include 'x' %}",
    "-->]]>&lt;b&gt;",
    "javascript:alert(1)",
    "[approve](https://evil.example) **bold** | a | b |",
    "a\r\n\r\napproved by olivia\rx\x1b[2J",
    "\u202eevorppa\u202c \u2066x\u2069\u200b\u2028",
    "\x00\ufffe\ue000",
]


class Shape(HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *(name for name, _ in attrs)))
        self.text += " " if tag in {"a", "dd", "div", "dt", "td", "th", "tr"} else ""
        self.links += [value for name, value in attrs if name in {"href", "src", "action"}]

    def handle_endtag(self, tag):
        self.elements.append((f"/{tag}",))

    def handle_data(self, data):
        self.text += data


def text_of(html: str) -> str:
    shown = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(Shape(shown).text.replace("\N{EN DASH}", "-").split())


@pytest.mark.attack(31)
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_untrusted_text_shows_as_text(write_pages, page, hostile):
    html, plain = write_pages(hostile)[page], write_pages("harmless")[page]
    found, expected = Shape(html), Shape(plain)
    assert found.elements == expected.elements
    assert len(found.text) > len(expected.text) - 1000
    assert [c for c in html if not c.isprintable() and c != "\n"] == []
    assert html.encode("utf-8")
    assert {link.partition(":")[0] for link in found.links if ":" in link} <= {
        "data",
        "/mlgov/requests/sha256",
    }


def test_the_hostile_text_is_really_there(write_pages):
    for page, html in write_pages("<b>mark</b>").items():
        assert html.count("&lt;b&gt;mark&lt;/b&gt;") > {"evidence": 60, "model": 20}.get(page, 0)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_closed_and_asks_for_nothing_from_elsewhere(write_pages, page):
    html = write_pages()[page]
    shape = Shape(html)
    tags = [tag for tag, *_ in shape.elements]
    assert "script" not in tags
    assert tags.count("form") == {"evidence": 3, "model": 7}.get(page, 0)
    assert not {attribute for _, *names in shape.elements for attribute in names} & {"style", "src"}
    for tag in (
        "table",
        "section",
        "form",
        "details",
        "label",
        "dl",
        "svg",
        "figure",
        "main",
        "bdi",
        "td",
        "div",
    ):
        assert tags.count(tag) == tags.count(f"/{tag}"), tag
    assert all(link.startswith(("/", "data:,", "#")) for link in shape.links)
    assert len(html) < 120_000


def test_the_style_sheet_is_the_one_that_the_header_names(write_pages):
    (style,) = re.findall(r"<style>(.*?)</style>", write_pages()["evidence"], re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = content_security_policy()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "url(" not in style
    assert "@import" not in style


def test_the_evidence_page_says_all_that_is_decided_on(write_pages):
    said = text_of(write_pages()["evidence"])
    for text in (
        "Approve Retail credit card probability of default version 3 for production?",
        "Waiting for approval waits for you Answer in Airflow",
        "Asked by erin, 2026-06-01 12:00 UTC",
        "This model is stopped.",
        "it scores nonsense",
        "Another policy pack is in force by now.",
        "used there for 365 days from the last vote",
        "model_owner olivia (L1) - - ends the request",
        "committee nobody yet 2 victor, vera takes that place out",
        "4 2026-06-01 12:00 UTC olivia approved L1 looked at it",
        "answered not counted: the voter is the requester L1 mine",
        "F-1 high open calibration is off olivia 2026-06-01 overdue",
        "F-2 low closed late olivia 2026-06-01",
        "0.7712 0.75 to 0.79 (95%) p = 0.01 few rows",
        "fail below 0.68 0.76 validation 9,000",
        "not computed",
        "✗ fail 1 ! warn 1 ✓ pass 0",
        "the challenger ranks better",
        "20-29 900 75.0% 0.930 0.04",
        "60+ 9 70.0% too few rows -",
        "development 21,000 25 clients, 58 expectations ✓ pass not met: age is between 18 and 99",
        "validation file:///v.csv 9,000 2,000 22.2%",
        "b2d2a88, folder as committed",
        "who asks, nor who developed this version",
        "Do not decide on this page yet: 1 of 2 evidence documents cannot be shown.",
        "model.validated: Evidence was altered.",
        "✓ bytes have this digest",
        "version 2, as alias champion since 2026-06-01 12:00 UTC",
        "Decide by 2026-06-01 12:00 UTC; after that it is denied",
    ):
        assert text in said, text


def test_links_lead_to_the_gate_and_the_model(dossier):
    html = write_evidence_page(dossier, Site("/airflow"))
    assert 'href="/airflow/dags/dag/runs/run/tasks/gate/mapped/2/required_actions"' in html
    assert 'href="/airflow/mlgov/models/retail_pd"' in html
    assert 'href="/airflow/mlgov/"' in html


@pytest.mark.parametrize("state", RequestState)
def test_only_an_open_request_is_answered(dossier, state):
    html = write_evidence_page(replace(dossier, state=state), Site(""))
    assert ("Answer in Airflow" in html) is (state is RequestState.OPEN)


def test_a_request_without_readable_documents_still_has_a_page(dossier):
    bare = replace(
        dossier,
        reports=[],
        trainings=[],
        data=[],
        findings=[],
        in_use=None,
        documents=[],
        stop=None,
    )
    said = text_of(write_evidence_page(bare, Site("")))
    for text in (
        "The request rests on no validation report.",
        "The request rests on no data validation.",
        "There are no curves to show.",
        "No findings on this version.",
        "nothing for production",
    ):
        assert text in said, text
    assert "Do not decide" not in said


def test_what_does_not_print_shows_as_its_code_point():
    assert visible("a\r\nb\u202ec\rd\x00") == "a\nb[U+202E]c[U+000D]d[U+0000]"
    assert visible("x" * (MAX_TEXT + 5)) == "x" * MAX_TEXT + " … [5 more characters]"
    assert visible("\ud800") == "[U+D800]"
    assert visible(5) == 5


def test_an_address_is_quoted(dossier):
    site = Site("https://airflow.example/base")
    request = replace(dossier.request, run_id="manual__2026-01-01T00:00:00+00:00/../x?y#z")
    assert site.gate(request).startswith(
        "https://airflow.example/base/dags/dag/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00%2F..%2Fx%3Fy%23z/"
    )
    assert site.request(Digest.of(b"x")).endswith(f"/base/mlgov/requests/{Digest.of(b'x')}")
    assert site.model("a/b") == "https://airflow.example/base/mlgov/models/a%2Fb"
    assert site.sign_in("/mlgov/?a&b").endswith("/api/v2/auth/login?next=%2Fmlgov%2F%3Fa%26b")


def test_a_form_says_where_it_goes_and_carries_its_token(write_pages, dossier):
    html = write_pages()["model"]
    sent = re.findall(r'<form method="post" action="([^"]*)">', html)
    base = "/mlgov/models/retail_pd"
    digest = str(Digest.of(b"x")).replace(":", "%3A")
    assert sent == [
        f"{base}/close/F-1",
        f"{base}/accept/F-1",
        f"{base}/confirm/F-3",
        f"{base}/stop",
        f"{base}/resume",
        f"{base}/revoke/{digest}",
        f"{base}/breakglass",
    ]
    assert html.count(f'name="token" value="1.12.{"ab" * 32}"') == len(sent)
    assert html.count('name="reason" rows="3" maxlength="2000" required') == len(sent)
    assert 'name="request"' not in html
    evidence = write_pages()["evidence"]
    assert evidence.count(f'name="request" value="{dossier.request.digest}"') == 3
    said = text_of(html)
    for text in (
        "Finding F-9 is closed: ledger entry 11.",
        "Last day, at most 2026-07-01",
        "2 more on versions whose requests you may not read.",
        f"3 · {Digest.of(b'y')}",
    ):
        assert text in said, text


def test_who_may_do_nothing_is_offered_nothing_but_to_stop(dossier, model_page):
    assert "<form" not in write_evidence_page(dossier, Site(""))
    desk = Desk("retail_pd", 12, date(2026, 6, 1))
    assert "<form" not in write_evidence_page(dossier, Site(""), desk, "token")
    html = write_model_page(replace(model_page, desk=desk), Site("/base"), "token")
    assert re.findall(r'action="([^"]*)"', html) == ["/base/mlgov/models/retail_pd/stop"]


@pytest.mark.parametrize("state", RequestState)
def test_only_what_still_counts_is_revoked(model_page, state):
    page = replace(model_page, requests=[replace(model_page.requests[0], state=state)])
    offered = "Revoke version 3 for production" in write_model_page(page, Site(""), "token")
    assert offered is (state.value in {"open", "granted", "consumed"})


def test_only_a_stopped_model_is_resumed(model_page):
    page = replace(model_page, model=replace(model_page.model, stop=None))
    assert "/resume" not in write_model_page(page, Site(""), "token")


def test_an_accepted_finding_says_until_when_and_why(dossier):
    accepted = replace(
        dossier.findings[0],
        accepted_until=datetime(2026, 8, 1, tzinfo=UTC),
        settled_by="olivia",
        reason="small",
    )
    said = text_of(write_evidence_page(replace(dossier, findings=[accepted]), Site("")))
    assert "open risk accepted until 2026-08-01 00:00 UTC by olivia: small" in said


def test_what_was_typed_is_given_back():
    html = write_problem("No", "Say why.", Site(""), back="/mlgov/x", typed="<b>my reason")
    assert "What you had typed <b>my reason" in text_of(html)
    assert "&lt;b&gt;my reason" in html
    assert 'href="/mlgov/x"' in html
    assert "What you had typed" not in write_problem("No", "Say why.", Site(""))
