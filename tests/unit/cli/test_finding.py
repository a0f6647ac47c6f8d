from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta

import pytest

import airflow_mlgov.wiring
from airflow_mlgov.cli.finding import finding_commands, list_findings
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

NOW = datetime(2026, 6, 1, tzinfo=UTC)

LATE, LOW, HIGH, OTHER, DONE = (f"F-0000000{number}" for number in range(1, 6))


class Rules:
    """What the command needs of a Governance: a ledger, a clock, and which models there are."""

    def __init__(self, folder) -> None:
        store = SqliteStore.from_url(f"sqlite:///{folder}/ledger.db")
        self.ledger, self.clock = Ledger(store, open_signers(folder / "keys")), self

    def now(self):
        return NOW

    def model(self, model_id):
        if model_id not in {"retail_pd", "other"}:
            raise ConfigurationError(f"Model {model_id!r} is not in the inventory.")

    def write(self, kind, finding, model="retail_pd", **body):
        role = KeyRole.ATTESTOR if kind == "finding.closed" else KeyRole.WRITER
        opened = kind == "finding.opened"
        draft = EntryDraft(
            kind,
            model,
            Digest.of(b"v"),
            {"finding": finding, **body},
            (finding, kind),
            people={"owner": Person("7", "olivia")} if opened else {},
            texts={"summary": f"{finding} [bold]was found"} if opened else {},
        )
        self.ledger.seal(self.ledger.append(draft, role=role))

    def open(self, finding, severity, days, model="retail_pd"):
        due = (NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self.write(
            "finding.opened", finding, model, severity=severity, test="stability.psi", due_at=due
        )


@pytest.fixture
def rules(tmp_path, monkeypatch):
    rules = Rules(tmp_path)
    monkeypatch.setattr(airflow_mlgov.wiring, "open_governance", lambda: rules)
    rules.open(LATE, "medium", -1)
    rules.open(LOW, "low", 5)
    rules.open(HIGH, "high", 30)
    rules.open(OTHER, "high", 20, "other")
    rules.open(DONE, "high", 10)
    rules.write("finding.closed", DONE)
    return rules


def run(*arguments: str) -> None:
    command = finding_commands()[0]
    parser = ArgumentParser()
    for argument in command.args:
        argument.add_to_parser(parser)
    command.func(parser.parse_args(arguments))


def listed(capsys, *arguments: str) -> list[dict]:
    run(*arguments, "--output", "json")
    return json.loads(capsys.readouterr().out)


def test_worst_first_then_soonest_due(rules, capsys):
    rows = listed(capsys)
    assert [row["finding"] for row in rows] == [OTHER, HIGH, LATE, LOW]
    assert rows[2] == {
        "finding": LATE,
        "model": "retail_pd",
        "version": str(Digest.of(b"v")),
        "severity": "medium",
        "state": "overdue",
        "due_at": "2026-05-31T00:00:00.000Z",
        "owner": "olivia",
        "test": "stability.psi",
        "summary": f"{LATE} [bold]was found",
        "settled_by": "",
        "reason": "",
    }


def test_one_model(rules, capsys):
    assert [row["finding"] for row in listed(capsys, "--model", "other")] == [OTHER]


def test_closed_ones_come_last_and_on_request(rules, capsys):
    rows = listed(capsys, "--all", "--model", "retail_pd")
    assert [row["finding"] for row in rows][-1] == DONE
    assert [row["state"] for row in rows] == ["open", "overdue", "open", "closed"]


def test_table_for_people_escapes_markup(rules, capsys):
    run("--output", "plain")
    assert HIGH in capsys.readouterr().out
    run("--output", "table")
    assert DONE not in capsys.readouterr().out


def test_nothing_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(airflow_mlgov.wiring, "open_governance", lambda: Rules(tmp_path))
    run("--output", "table")
    assert "No open findings." in capsys.readouterr().err
    assert listed(capsys) == []


def test_unknown_model_is_a_clear_error(rules, capsys):
    with pytest.raises(SystemExit) as caught:
        run("--model", "unknown")
    assert caught.value.code == ConfigurationError.exit_code
    assert "'unknown' is not in the inventory" in capsys.readouterr().err


def test_the_handler_is_the_one_that_the_command_names():
    assert finding_commands()[0].name == "list"
    assert list_findings.__name__ == "list_findings"
