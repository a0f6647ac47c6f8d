from __future__ import annotations

import getpass

import pytest

from airflow_mlgov import wiring
from airflow_mlgov.errors import ConfigurationError


@pytest.fixture
def held(governed, monkeypatch):
    """The commands see the world's ledger; its pack keeps nothing longer than it is in use."""
    governed.gov.evidence.put(governed.gov.packs["retail_credit"].source)
    monkeypatch.setattr(wiring, "open_ledger_store", lambda url: governed.gov.ledger._store)
    monkeypatch.setattr(wiring, "setting", lambda name: "sqlite:////nowhere")
    return governed


@pytest.fixture
def free(held):
    """The same with the retention of ten years over."""
    held.clock.moment = held.clock.moment.replace(year=2037)
    return held


def test_without_yes_nothing_is_changed(free, airflow):
    ended = airflow("erase", "--person", "erin", "--output", "json")
    assert ended.code == 0
    assert ended.json == [
        {
            "index": "2",
            "kind": "model.trained",
            "model": "retail_pd",
            "field": "people.developer",
            "state": "erasable",
            "from": None,
            "why": "",
        }
    ]
    assert "Nothing was changed. With --yes, 1 field(s) are erased for good." in ended.err
    assert free.kinds("model.trained")[0].person("developer").id == "erin"
    assert free.kinds("erased") == []


def test_yes_erases(free, airflow):
    ended = airflow(
        "erase", "--person", "erin", "--yes", "--because", "storage_limit", "--output", "json"
    )
    assert (ended.code, [row["state"] for row in ended.json]) == (0, ["erased"])
    assert "Erased 1 field(s), kept 0." in ended.err
    assert free.kinds("model.trained")[0].person("developer") is None
    assert free.kinds("erased")[0].body["because"] == "storage_limit"
    again = airflow("erase", "--person", "erin", "--yes")
    assert (again.code, again.out) == (0, "")
    assert "Erased 0 field(s), kept 0." in again.err
    assert "Nothing was found." in airflow("erase", "--person", "erin").err


def test_what_is_kept_says_until_when_and_why(held, airflow):
    ended = airflow("erase", "--person", "erin", "--yes", "--output", "json")
    assert ended.code == 0
    (row,) = ended.json
    assert (row["state"], row["from"]) == ("kept", "2036-06-01T12:00:00.000Z")
    assert "10 years" in row["why"]
    assert "Erased 0 field(s), kept 1." in ended.err
    shown = airflow("erase", "--person", "erin")
    assert "Nothing of this person may be erased now." in shown.err
    assert "2036-06-01" in shown.out


def test_a_hold_is_placed_listed_and_lifted(free, airflow, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "lara")
    placed = airflow(
        "hold", "place", "--model", "retail_pd", "--reason", "a lawsuit", "--output", "json"
    )
    (hold,) = placed.json
    assert (hold["model"], hold["placed_by"], hold["reason"]) == (
        "retail_pd",
        "lara",
        "a lawsuit",
    )
    (kept,) = airflow("erase", "--person", "erin", "--yes", "--output", "json").json
    assert (kept["state"], kept["from"]) == ("kept", None)
    assert hold["hold"] in kept["why"]
    listed = airflow("hold", "list", "--output", "json").json
    assert listed == [hold]
    assert airflow("hold", "list", "--model", "other", "--output", "json").json == []
    lifted = airflow("hold", "lift", "--model", "retail_pd", "--reason", "settled", "-o", "json")
    assert lifted.json[0]["lifted_at"]
    assert "No holds." in airflow("hold", "list").err
    assert [row["hold"] for row in airflow("hold", "list", "--all", "-o", "json").json] == [
        hold["hold"]
    ]
    assert [row["state"] for row in airflow("erase", "--person", "erin", "-o", "json").json] == [
        "erasable"
    ]


def test_a_user_without_a_name(free, airflow, monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    ended = airflow("hold", "place", "--model", "retail_pd", "--reason", "a lawsuit")
    assert ended.code == ConfigurationError.exit_code
    assert "LOGNAME" in ended.err


def test_errors_are_told_without_a_traceback(free, airflow):
    ended = airflow("hold", "lift", "--model", "retail_pd", "--reason", "settled")
    assert (ended.code, ended.out) == (64, "")
    assert "has no hold" in ended.err


def test_what_cannot_be_believed_fails_the_command(free, airflow):
    with free.gov.ledger._store._writing() as connection:
        connection.execute("UPDATE disclosures SET salt = zeroblob(32)")
    ended = airflow("erase", "--person", "erin", "--output", "json")
    assert (ended.code, ended.json) == (1, [])
    assert "1 entries cannot be believed" in ended.err
    assert "(first: 2)" in ended.err


def test_another_id_of_the_same_name_is_told(free, airflow):
    from airflow_mlgov.records.people import Person

    free.train('{"points": [7]}', by=Person("7", "erin"))
    assert "other ids: 7." in airflow("erase", "--person", "erin").err
