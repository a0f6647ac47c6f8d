from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from markdown_it import MarkdownIt

from airflow_mlgov.dossiers.approval_form import (
    MAX_SUBJECT_PART,
    MAX_TEXT,
    ApprovalForm,
    DataLine,
    SeatLine,
    TrainingLine,
    body_of,
    escape,
    headline_of,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import (
    ApprovalRequest,
    Assurance,
    Finding,
    Outcome,
    Severity,
    TestResult,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DIGEST = Digest.of(b"x")
REQUEST = ApprovalRequest(
    "m", DIGEST, "production", DIGEST, (("model.trained", DIGEST),), "d", "r", "gate", -1
)
FORM = ApprovalForm(
    request=REQUEST,
    model_name="Retail PD",
    registry_version="3",
    requester="erin",
    policy_id="retail_credit",
    valid_days=365,
    comment_min_length=10,
    least_assurance=Assurance.L1,
    seats=[
        SeatLine("model_owner", ("olivia (L0)",), 0, ("olivia",)),
        SeatLine("validator", (), 1, ("victor",)),
    ],
    results=[
        TestResult("t", "AUC", 0.7712, Outcome.PASS, "fail below 0.68", {"validation": 9000}, "s")
    ],
    findings=[Finding("F-1", "m", DIGEST, Severity.LOW, "t", "calibration is off", "olivia", NOW)],
    training=TrainingLine("train.py", str(DIGEST), "42"),
    data=[DataLine("development", 21000, 25, str(DIGEST), True, "clients")],
    refused=["erin: the voter is the requester"],
    asked_at=NOW,
)


def rendered(form: ApprovalForm) -> str:
    return MarkdownIt("commonmark").enable("table").render(body_of(form))


def test_says_what_is_asked_who_sits_and_what_was_found():
    html = rendered(FORM)
    for text in (
        "Retail PD",
        str(DIGEST),
        "olivia (L0)",
        "nobody yet",
        "0.7712",
        "calibration is off",
        "365 days",
        "seed 42",
        "21,000 rows, 25 columns",
        "passed its suite clients",
    ):
        assert text in html, text
    assert headline_of(FORM) == "Approve Retail PD version 3 for production?"
    assert html.count("<table>") == 3


def test_an_accepted_finding_says_who_carries_its_risk_until_when_and_why():
    accepted = replace(
        FORM.findings[0], accepted_until=NOW, settled_by="victor", reason="<b>small</b>"
    )
    html = rendered(replace(FORM, findings=[accepted]))
    said = "F-1 was accepted by victor until 2026-06-01 00:00 UTC: &lt;b&gt;small&lt;/b&gt;"
    assert f"<p>{said}</p>" in html
    assert "accepted by" not in rendered(FORM)


@pytest.mark.attack(31)
@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "[approve](https://evil.example)",
        "![x](https://evil.example/x.png)",
        "a | b | c |\n|---|---|",
        "# heading\n\n* list\n\n```\ncode",
        "https://evil.example",
        "a\r\n\r\n| model_owner | olivia | 0 |",
        "\u202egnp.exe\u0000",
        "<b onmouseover=x>",
        "**bold** _it_ `code` ~~s~~",
        "$\\LaTeX$ &lt;",
        "`<b>`",
        "0`</code>[a](https://evil.example)`",
        "``` x\n\n# y",
    ],
)
def test_untrusted_text_shows_as_text(hostile):
    html, plain = rendered(form_of(hostile)), rendered(form_of("harmless"))
    for tag in (
        "<script",
        "<a ",
        "<img",
        "<b ",
        "<h1",
        "<code",
        "<table",
        "<tr",
        "<li",
        "<em",
        "<strong",
        "<s>",
        "<p>",
        "<hr",
        "<pre",
    ):
        assert html.count(tag) == plain.count(tag), (tag, html)
    assert "\u202e" not in html
    assert "\u0000" not in html


def form_of(text: str) -> ApprovalForm:
    return replace(
        FORM,
        model_name=text,
        requester=text,
        seats=[SeatLine(text, (text,), 0, (text,))],
        findings=[replace(FORM.findings[0], summary=text, owner=text, id=text)],
        results=[replace(FORM.results[0], title=text, threshold=text, segment=text)],
        request=replace(REQUEST, evidence=((text, DIGEST),), target=text, run_id=text, dag_id=text),
        registry_version=text,
        policy_id=text,
        training=TrainingLine(text, f"sha256:{text}", text),
        data=[DataLine(text, 1, 1, f"sha256:{text}", False, text)],
        refused=[text],
    )


def test_the_form_leads_to_the_page_if_it_knows_where_that_is():
    page = "https://airflow.example/mlgov/requests/sha256:0"
    assert f'<a href="{page}"><strong>Evidence page</strong></a>' in rendered(
        replace(FORM, page=page)
    )
    assert "<a " not in rendered(FORM)


def test_long_text_is_cut():
    assert len(escape("x" * 10_000)) == MAX_TEXT


def test_what_is_no_digest_shows_as_none():
    html = rendered(replace(FORM, training=TrainingLine("train.py", "``", "1")))
    assert "code no digest, seed 1" in html


@pytest.mark.attack(31)
def test_the_headline_is_one_short_line_of_plain_text():
    headline = headline_of(
        replace(FORM, model_name="a\nb\u202e", registry_version="9\n" * 10_000, requester="x")
    )
    assert headline.startswith("Approve a b version 9 9 9")
    assert headline.endswith("… for production?")
    assert headline.isprintable()
    assert len(headline) < 2 * MAX_SUBJECT_PART


def test_what_a_rejection_does_and_until_when_to_decide() -> None:
    assert "One rejection ends the request. " in body_of(FORM)
    committee = SeatLine("committee_x", (), 2, ("a", "b", "c"), veto=False)
    form = replace(
        FORM,
        seats=[*FORM.seats, committee],
        decide_by=datetime(2026, 5, 4, 12, 30, tzinfo=UTC),
        objections=["a: <b>no</b>"],
    )
    text = body_of(form)
    assert r"except from committee\_x" in text
    assert "If nobody has decided by 2026-05-04 12:30 UTC, it is denied." in text
    assert r"- a\: \<b\>no\<\/b\>" in text
