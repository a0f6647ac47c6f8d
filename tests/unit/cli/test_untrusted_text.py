"""Threat 31: what people wrote shows as text, and forges no line of what a command prints."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta

import pytest

from airflow_mlgov import wiring
from airflow_mlgov.ledger.merkle import leaf_hash
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.holds import place_hold
from airflow_mlgov.service.ports import InboxItem
from airflow_mlgov.service.vote import Answer, record_answer

HOSTILE = {
    "CR and LF": "x\r\n99  2026-01-01T00:00:00.000Z  model.promoted\r\nThe ledger verifies.",
    "other line ends": "x\x0b\x0c\x1c\x85\u2028\u2029The ledger verifies.",
    "terminal": "x\x1b[2J\x1b[31m\x07\x08\x9b1A",
    "table": "x | forged | 1 |\n|---|---|",
    "HTML": "<script>alert(1)</script><b>",
    "Markdown": "**x** [link](https://evil.example) `code`\n# heading",
    "rich": "[red]x[/red] [link=https://evil.example]y[/link]",
    "bidi": "\u202egnp.exe\u2066\u200b",
}
LINE_ENDS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
COMMANDS = [
    ("ledger", "show"),
    ("ledger", "log"),
    ("ledger", "tail"),
    ("ledger", "stats"),
    ("ledger", "verify"),
    ("status", "retail_pd"),
    ("hold", "list"),
    ("finding", "list"),
    ("erase", "--person", "id"),
]


@pytest.fixture
def said(governed, monkeypatch):
    """Return a function that puts a text wherever people may write one."""
    monkeypatch.setattr(wiring, "open_ledger", lambda: governed.gov.ledger)
    request = governed.ask()
    numbers = itertools.count(1)

    def put(text: str) -> None:
        who, number = Person("id", text), next(numbers)
        governed.clock.moment += timedelta(seconds=1)
        place_hold(governed.gov, "retail_pd", text, who)
        answer = Answer(Choice.APPROVE, str(request.digest), text, who, governed.clock.now())
        record_answer(governed.gov, request, answer, governed.GATE)
        due = {"due_at": "2026-07-01T00:00:00.000Z"}
        governed.entry(
            "finding.opened",
            {"finding": f"F-0000000{number}", "severity": "low", "test": "t", **due},
            version=governed.version,
            people={"owner": who},
            texts={"summary": text},
        )

    return put


@pytest.mark.attack(31)
@pytest.mark.parametrize("name", HOSTILE)
def test_threat_31_no_command_prints_a_line_that_somebody_forged(airflow, said, name):
    shown = []
    for text in ("harmless", HOSTILE[name], "harmless as well"):
        said(text)
        shown.append([run(airflow, words) for words in COMMANDS])
    for words, before, after, later in zip(COMMANDS, *shown, strict=True):
        assert len(after) - len(before) == len(later) - len(after), words
        assert all(line.isprintable() for line in after), words
        forged = [line for line in after if line.startswith(("99", "The ledger v"))]
        assert forged == (["The ledger verifies."] if "verify" in words else []), words
    assert len(shown[2][0]) > len(shown[0][0])


def run(airflow, words: tuple[str, ...]) -> list[str]:
    """Return the lines of what a command prints, by whatever may end a line."""
    ended = airflow(*words, *(() if "verify" in words else ("--output", "plain")))
    assert ended.code == 0, ended.err
    return LINE_ENDS.split(ended.out + ended.err)


@pytest.mark.attack(31)
@pytest.mark.parametrize("name", HOSTILE)
def test_threat_31_an_entry_that_nobody_signed_forges_no_line_of_a_report(
    airflow, governed, monkeypatch, name
):
    """Whoever may insert can put any bytes into the ledger."""
    monkeypatch.setattr(wiring, "open_ledger", lambda: governed.gov.ledger)
    store = governed.gov.ledger._store
    before = len(airflow("ledger", "verify").out.splitlines())
    leaf = f'{{"payload":"{HOSTILE[name]}","{HOSTILE[name]}":1}}'.encode()
    store.insert(InboxItem(f"sha256:{leaf_hash(leaf).hex()}", leaf), {}, governed.clock.now())
    governed.gov.ledger.drain()
    ended = airflow("ledger", "verify")
    assert ended.code == 1
    lines = LINE_ENDS.split(ended.out)
    assert lines[0] == "THE LEDGER DOES NOT VERIFY."
    assert "The ledger verifies." not in lines
    assert len(ended.out.splitlines()) == before + 1
    assert all(c.isprintable() or c == "\n" for c in ended.out)


@pytest.mark.attack(31)
@pytest.mark.parametrize("name", HOSTILE)
def test_threat_31_an_error_says_what_was_given_on_its_own_lines(airflow, governed, name):
    ended = airflow("status", HOSTILE[name])
    assert ended.code
    assert all(c.isprintable() or c == "\n" for c in ended.err)
    assert not any(line.startswith(("99", "The ledger")) for line in LINE_ENDS.split(ended.err))
