from __future__ import annotations

import pytest

from airflow_mlgov.errors import ApprovalDeniedError, UnknownSubjectError
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.overview import collect_model, collect_overview
from airflow_mlgov.service.stop import stop_model

VICTOR, ERIN, ZOE = (Person(name, name.title()) for name in ("victor", "erin", "zoe"))


@pytest.fixture
def least_assurance():
    return "L1"


def everything(_: str) -> bool:
    return True


def ask_again(world, run: str, dag: str = "retail_pd"):
    world.train(f'{{"points": ["{run}"]}}', run_id=run)
    world.validate_model(run)
    version = world.version
    return world.ask(version=version, source=Source(dag, run, "gate", -1, 1))


def test_what_waits_for_the_reader_comes_first(candidate):
    first = candidate.ask()
    candidate.answer(first, "victor")
    second = ask_again(candidate, "run-2")
    found = collect_overview(candidate.gov, VICTOR, everything)
    assert [(line.digest, line.is_reader_waited_for) for line in found.waiting] == [
        (second.digest, True),
        (first.digest, False),
    ]
    assert [(seat.role, seat.eligible) for seat in found.waiting[1].open_seats] == [
        ("model_owner", ("olivia",))
    ]
    assert (found.reader, found.hidden, found.unread) == ("Victor", 0, [])
    found = collect_overview(candidate.gov, ERIN, everything)
    assert [line.digest for line in found.waiting] == [first.digest, second.digest]
    assert not any(line.is_reader_waited_for for line in found.waiting)


def test_what_is_decided_waits_for_nobody(candidate):
    candidate.approve(candidate.ask())
    denied = ask_again(candidate, "run-2")
    with pytest.raises(ApprovalDeniedError):
        candidate.answer(denied, "victor", Choice.REJECT)
    assert collect_overview(candidate.gov, VICTOR, everything).waiting == []


def test_requests_of_dags_that_the_reader_may_not_read_are_only_counted(candidate):
    candidate.ask()
    hidden = ask_again(candidate, "run-2", "secret")
    for found in (
        collect_overview(candidate.gov, VICTOR, lambda dag: dag != "secret").waiting,
        collect_model(candidate.gov, "retail_pd", VICTOR, lambda dag: dag != "secret").requests,
    ):
        assert len(found) == 1
        assert hidden.digest not in {line.digest for line in found}
    assert collect_overview(candidate.gov, VICTOR, lambda dag: dag != "secret").hidden == 1
    nothing = collect_model(candidate.gov, "retail_pd", VICTOR, lambda dag: False)
    assert (nothing.requests, nothing.hidden) == ([], 2)


def test_a_model_lists_its_requests_newest_first(candidate):
    first = candidate.ask()
    candidate.approve(first)
    second = ask_again(candidate, "run-2")
    page = collect_model(candidate.gov, "retail_pd", VICTOR, everything)
    assert [(line.digest, line.state.value, line.number) for line in page.requests] == [
        (second.digest, "open", "2"),
        (first.digest, "granted", "1"),
    ]
    assert (page.model.entry.id, page.model.stop, page.hidden) == ("retail_pd", None, 0)


def test_a_stopped_model_shows_as_stopped(candidate):
    candidate.ask()
    stop_model(candidate.gov, "retail_pd", "scores nonsense", ZOE)
    assert collect_model(candidate.gov, "retail_pd", VICTOR, everything).model.stop.who == "Zoe"
    (model,) = collect_overview(candidate.gov, VICTOR, everything).models
    assert model.stop.reason == "scores nonsense"


def test_a_request_whose_pack_cannot_be_read_is_named(candidate):
    request = candidate.ask()
    get = candidate.gov.evidence.get
    candidate.gov.evidence.get = lambda digest: b"x" if digest == request.policy else get(digest)
    assert collect_overview(candidate.gov, VICTOR, everything).unread == [request.digest]
    page = collect_model(candidate.gov, "retail_pd", VICTOR, everything)
    assert (page.requests, page.unread) == ([], [request.digest])
    assert collect_overview(candidate.gov, VICTOR, lambda dag: False).unread == []


def test_an_unknown_model(candidate):
    with pytest.raises(UnknownSubjectError):
        collect_model(candidate.gov, "unknown", VICTOR, everything)
