from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
import yaml
from lineage_chain import SCORES, Chain
from marquez import FakeMarquez

from airflow_mlgov import wiring
from airflow_mlgov.lineage import events
from airflow_mlgov.lineage.datasets import ApprovalRef
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.score import model_in_use
from airflow_mlgov.stores.sqlite import SqliteOutbox

SCORED = ("--dataset", "file", SCORES.dataset.name)


@pytest.fixture
def used(governed, tmp_path, monkeypatch) -> Chain:
    """A version that was approved, promoted and used, with its lineage in the ledger's file."""
    outbox = SqliteOutbox.from_url(f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setattr(wiring, "open_outbox", lambda: outbox)
    chain = Chain(governed, outbox)
    chain.tell_training()
    request = governed.ask()
    chain.tell_request(request)
    governed.approve(request)
    chain.tell_decision(request, is_granted=True)
    promote(governed.gov, governed.registry, governed.use())
    with model_in_use(governed.gov, governed.registry, governed.use("score")):
        pass
    chain.tell_use(chain.asked(request))
    return chain


@pytest.mark.parametrize("output", ["table", "plain"])
def test_a_tree_and_who_approved(airflow, used, output) -> None:
    ended = airflow("trace", *SCORED, "--output", output)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"data {SCORES.dataset.name}  sha256:")
    assert lines[1].startswith("└─ run retail_pd.score  COMPLETE")
    assert any("source /data/raw.csv@" in line for line in lines)
    seats = {name: next(line for line in lines if name in line) for name in ("olivia", "victor")}
    assert "model_owner" in seats["olivia"]
    assert "independent_validator" in seats["victor"]
    assert "Nothing is missing, and nothing is told differently." in ended.err


def test_one_object_for_programs(airflow, used) -> None:
    ended = airflow("trace", *SCORED, "--output", "json")
    assert ended.code == 0
    assert sorted(ended.json) == ["edges", "gaps", "nodes"]
    assert ended.json["gaps"] == []
    assert ended.json["nodes"][0]["id"] == f"dataset:file:{SCORES.dataset.name}"
    assert "victor" not in ended.out
    assert yaml.safe_load(airflow("trace", *SCORED, "--output", "yaml").out) == ended.json


def test_the_same_graph_from_a_run_and_from_a_version(airflow, used) -> None:
    by_run = airflow("trace", "--run", used.runs["score"], "--output", "json").json
    assert by_run["nodes"][0]["id"] == f"run:{used.runs['score']}"
    by_model = airflow("trace", "--model", "retail_pd", "--version", "1", "--output", "json")
    assert by_model.code == 0
    assert by_model.json["nodes"][0]["kind"] == "model"


def test_a_picture(airflow, used, tmp_path) -> None:
    file = tmp_path / "trace.svg"
    ended = airflow("trace", *SCORED, "--svg", str(file), "--output", "json")
    assert ended.code == 0
    assert ended.json["gaps"] == []
    assert f"Wrote {file}." in ended.err
    assert ET.parse(file).getroot().tag.endswith("svg")
    ended = airflow("trace", *SCORED, "--svg", str(tmp_path / "none" / "trace.svg"))
    assert ended.code == 64
    assert "cannot be written" in ended.err


def test_a_gap_is_printed_and_ends_with_one(airflow, used, tmp_path) -> None:
    forged = ApprovalRef(used.model(), "production", Digest.of(b"forged"))
    run_id = used.run("gate.decide", events.decide(forged, is_granted=True))
    ended = airflow("trace", "--run", run_id)
    assert ended.code == 1
    assert "Missing, or told differently" in ended.out
    assert f"no run in the outbox wrote retail_pd/1/request/{forged.request.short}" in " ".join(
        ended.out.split()
    )
    ended = airflow("trace", "--run", run_id, "--output", "json")
    assert ended.code == 1
    assert {gap["where"] for gap in ended.json["gaps"]} == {"outbox", "ledger"}
    assert ended.json["gaps"][0]["node"].startswith("dataset:mlgov:retail_pd/1/request/")


def test_marquez_is_asked_only_if_it_is_named(airflow, used, monkeypatch) -> None:
    with FakeMarquez() as marquez:
        monkeypatch.setenv(
            "AIRFLOW_CONN_MARQUEZ_DEFAULT", f"marquez://:@{marquez.url.removeprefix('http://')}"
        )
        assert airflow("trace", *SCORED).code == 0
        assert marquez.requests == []
        ended = airflow(
            "trace", *SCORED, "--marquez-conn-id", "marquez_default", "--output", "json"
        )
    assert ended.code == 1
    assert {gap["where"] for gap in ended.json["gaps"]} == {"marquez"}
    run_id, first = used.runs["score"], ended.json["gaps"][0]
    problem = f"run {run_id} (retail_pd.score) is missing in Marquez, COMPLETE was sent"
    wanted = {"where": "marquez", "node": f"run:{run_id}", "field": "run", "problem": problem}
    assert first == wanted


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--model", "retail_pd"),
        ("--version", "1"),
        ("--run", "x", "--version", "1"),
        ("--run", "x", *SCORED),
        ("--model", "retail_pd", "--version", "1", "--run", "x"),
    ],
)
def test_where_to_begin_must_be_said_once(airflow, used, arguments) -> None:
    ended = airflow("trace", *arguments)
    assert ended.code == 64
    assert "not clear where to begin" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "unknown", "--version", "1"), "not in the inventory"),
        (("--model", "retail_pd", "--version", "9"), "no version '9'"),
        (("--run", "x"), "no event of the run 'x'"),
        (("--dataset", "file", "/x"), "no event about the dataset '/x'"),
        (("--run", "x", "--marquez-conn-id", "unknown"), "unknown"),
    ],
)
def test_what_nobody_knows_is_an_error(airflow, used, arguments, said) -> None:
    ended = airflow("trace", *arguments)
    assert ended.code == 64
    assert ended.out == ""
    assert said in ended.err


def test_names_of_others_do_not_move_the_cursor(airflow, used) -> None:
    event = dict(used.sent[-1])
    name = "/data/\x1b[2Jevil.csv"
    used.send(
        {
            **event,
            "run": {"runId": "00000000-0000-4000-8000-000000000001"},
            "outputs": [{"namespace": "file", "name": name}],
        }
    )
    ended = airflow("trace", "--dataset", "file", name)
    assert "\x1b[2J" not in ended.out
    assert "\\x1b[2Jevil.csv" in ended.out
