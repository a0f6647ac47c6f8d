"""The end-to-end checks must pass a good record and see each way of breaking one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

Events = list[dict[str, Any]]


def at(events: Events, job: str, state: str = "COMPLETE") -> dict[str, Any]:
    return next(e for e in events if e["job"]["name"].startswith(job) and e["eventType"] == state)


def test_a_whole_run_passes(recorded: Events, checks: Any, write_events: Any) -> None:
    summary = checks.check_events(write_events(recorded))
    (chain,) = summary["chains"]
    assert chain["scores"].startswith("file | /data/scores.csv@")
    assert [source.partition("@")[0] for source in chain["rests_on"]] == [
        "file | /data/taiwan_credit.csv"
    ]
    assert summary["events"] == len(recorded)


def test_an_empty_or_broken_file_is_no_lineage(tmp_path: Any, checks: Any) -> None:
    path = tmp_path / "events.jsonl"
    for content, words in (("", "no events"), ("{", "not JSON")):
        path.write_text(content)
        with pytest.raises(AssertionError, match=words):
            checks.check_events(path)


def without_registration(events: Events) -> None:
    events.remove(at(events, "register.taiwan_credit.csv"))


def reader_first(events: Events) -> None:
    start = at(events, "retail_pd.validate_model", "START")
    events.remove(start)
    events.insert(1, start)


def version_written_by_promotion(events: Events) -> None:
    model = at(events, "retail_pd.train")["outputs"][0]
    at(events, "retail_pd.promote")["outputs"].append(model)


def input_lost_at_the_end(events: Events) -> None:
    at(events, "retail_pd.train")["inputs"].clear()


def facet_on_a_reader(events: Events) -> None:
    event = at(events, "retail_pd.train")
    event["inputs"][0]["facets"]["version"] = at(events, "retail_pd.train")["outputs"][0]["facets"][
        "version"
    ]


def bad_namespace(events: Events) -> None:
    at(events, "retail_pd.score")["outputs"][0]["namespace"] = "my files"


def arn(events: Events) -> None:
    at(events, "retail_pd.score")["outputs"][0]["namespace"] = "arn:aws:s3"


def port_like(events: Events) -> None:
    at(events, "retail_pd.score")["outputs"][0].update(namespace="a://b", name="7/x")


def masked(events: Events) -> None:
    at(events, "retail_pd.train")["run"]["facets"]["executionParameters"]["parameters"][0][
        "value"
    ] = "***"


def never_ended(events: Events) -> None:
    events.remove(at(events, "retail_pd.score"))


def start_after_the_end(events: Events) -> None:
    events.append(copy.deepcopy(at(events, "retail_pd.train", "START")))


def dag_run_missing(events: Events) -> None:
    for event in [e for e in events if e["job"]["name"] == "retail_pd"]:
        events.remove(event)


def decision_without_its_request(events: Events) -> None:
    for state in ("START", "COMPLETE"):
        event = at(events, "retail_pd.gate.decide", state)
        event["inputs"] = copy.deepcopy(at(events, "retail_pd.promote")["inputs"][:1])


def approval_not_used(events: Events) -> None:
    for job in ("retail_pd.promote", "retail_pd.score"):
        for state in ("START", "COMPLETE"):
            event = at(events, job, state)
            event["inputs"] = [i for i in event["inputs"] if "/approval/" not in i["name"]]


def nothing_scored(events: Events) -> None:
    for state in ("START", "COMPLETE"):
        events.remove(at(events, "retail_pd.score", state))


def too_long(events: Events) -> None:
    at(events, "retail_pd.train")["outputs"][0]["facets"]["documentation"]["description"] = (
        "x" * 60_000
    )


def decision_without_times(events: Events) -> None:
    del at(events, "retail_pd.gate.decide")["run"]["facets"]["mlgov_approval"]["decided_at"]


def decision_without_facet(events: Events) -> None:
    del at(events, "retail_pd.gate.decide")["run"]["facets"]["mlgov_approval"]


def decision_at_another_time(events: Events) -> None:
    at(events, "retail_pd.gate.decide")["eventTime"] = "2026-11-26T09:00:00.050+00:00"


def other_wait(events: Events) -> None:
    at(events, "retail_pd.gate.decide")["run"]["facets"]["mlgov_approval"]["waited_s"] = 0.05


def other_decision(events: Events) -> None:
    facet = at(events, "retail_pd.gate.decide")["run"]["facets"]["mlgov_approval"]
    facet["decision"] = "denied"


def request_that_was_granted(events: Events) -> None:
    granted = at(events, "retail_pd.gate.decide")["run"]["facets"]["mlgov_approval"]
    at(events, "retail_pd.gate.request")["run"]["facets"]["mlgov_approval"] = granted


def owner_named(events: Events) -> None:
    facet = at(events, "retail_pd.gate.decide")["run"]["facets"]["mlgov_approval"]
    facet["seats"][0]["role"] = "olivia"


def voter_listed(events: Events) -> None:
    facet = at(events, "retail_pd.gate.decide")["run"]["facets"]["mlgov_approval"]
    facet["voter"] = "vic"


BREAKS: list[tuple[Callable[[Events], None], str]] = [
    (without_registration, "nobody has written yet"),
    (reader_first, "nobody has written yet"),
    (version_written_by_promotion, "trains nothing"),
    (input_lost_at_the_end, "on START but not on COMPLETE"),
    (facet_on_a_reader, "states \\['version'\\]"),
    (bad_namespace, "breaks Marquez"),
    (arn, "ARN"),
    (port_like, "reads as a port"),
    (masked, "masked"),
    (never_ended, "never ended"),
    (start_after_the_end, "goes on after its end"),
    (dag_run_missing, "parent run sent no event"),
    (decision_without_its_request, "does not rest on its request"),
    (approval_not_used, "does not lead back to any APPROVAL"),
    (nothing_scored, "nothing was scored"),
    (too_long, "more than 50000"),
    (decision_without_times, "'decided_at' is a required property"),
    (decision_without_facet, "states no mlgov_approval"),
    (decision_at_another_time, "ended at another time"),
    (other_wait, "waited 259200.0 s"),
    (other_decision, "its run says 'denied'"),
    (request_that_was_granted, "its run says 'granted'"),
    (owner_named, "names \\['olivia'\\]"),
    (voter_listed, "voter is not listed"),
]


@pytest.mark.parametrize(("break_it", "words"), BREAKS, ids=[f.__name__ for f, _ in BREAKS])
def test_a_broken_record_is_told(
    break_it: Callable[[Events], None], words: str, recorded: Events, checks: Any, write_events: Any
) -> None:
    break_it(recorded)
    with pytest.raises(AssertionError, match=words):
        checks.check_events(write_events(recorded))


def test_a_schema_break_is_told(
    recorded: Events, checks: Any, write_events: Any, schemas: Any
) -> None:
    at(recorded, "retail_pd.validate_model")["run"]["facets"]["test"]["tests"][0]["status"] = 7
    with pytest.raises(AssertionError, match="facet 'test' is not what"):
        checks.check_events(write_events(recorded))


def test_people_can_be_named_who_must_not_be_found(
    recorded: Events, checks: Any, write_events: Any
) -> None:
    path = write_events(recorded)
    checks.check_events(path, ["victor"])
    with pytest.raises(AssertionError, match="names \\['frankfurt'\\]"):
        checks.check_events(path, ["frankfurt"])


def test_missing_schemas_are_an_error_in_ci_only(
    recorded: Events, checks: Any, write_events: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("OPENLINEAGE_SPEC_DIR", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    assert checks.check_events(write_events(recorded))["facets_checked"] is None
    monkeypatch.setenv("CI", "true")
    with pytest.raises(checks.SpecMissingError, match="OPENLINEAGE_SPEC_DIR"):
        checks.check_events(write_events(recorded))
