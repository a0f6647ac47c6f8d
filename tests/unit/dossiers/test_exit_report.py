from __future__ import annotations

from typing import Any

import pytest

from airflow_mlgov.dossiers.pages import write_exit_report
from airflow_mlgov.dossiers.site import Site

HOSTILE = "<script>\u202e"


def report(**changes: Any) -> dict[str, Any]:
    given = {
        "model": "retail_pd",
        "platform": "frankfurt",
        "to_platform": "home",
        "passed": True,
        "same_bytes": False,
        "results": [
            {"measure": "max_psi", "title": "PSI", "found": 0.25, "bound": 0.3, "passed": True},
            {
                "measure": "min_rank_agreement",
                "title": "Ranks",
                "found": None,
                "bound": 0.9,
                "passed": False,
            },
        ],
        "apart": [{"row": 1234, "first": 0.1, "second": 0.2}],
        "version": "sha256:" + "1" * 64,
        "rehearsed_version": "sha256:" + "2" * 64,
        "training_record": "sha256:" + "3" * 64,
        "training": {
            "script": "train.py",
            "seed": 42,
            "inputs": [{"name": "development", "uri": "file:///d.csv"}],
        },
        "sample": {"uri": "file:///s.csv", "rows": 9000},
        "scorer": "scoring:card",
        "policy": "retail_credit",
        "policy_sha256": "sha256:" + "4" * 64,
        "started_at": "2026-06-01T12:00:00.000Z",
        "finished_at": "2026-06-01T12:01:30.000Z",
        "duration_s": 90.0,
        "environment": [{"name": "numpy", "from": "2.4.6", "to": ""}],
    }
    return {**given, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"same_bytes": True}, "byte for byte"),
        ({}, "scores alike, within the tolerances"),
        ({"passed": False}, "does not score alike"),
    ],
)
def test_the_verdict_stands_first(changes, said: str) -> None:
    page = write_exit_report(report(**changes), Site(""))
    assert page.index(said) < page.index("Scores, row by row")


def test_it_says_what_was_found_and_what_differs() -> None:
    page = write_exit_report(report(), Site(""))
    for said in ("at most 0.3", "at least 0.9", "not computed", "1,234", "0.200000", "9,000 rows"):
        assert said in page
    assert "not there" in page
    bare = write_exit_report(report(apart=[], environment=[]), Site(""))
    assert "Rows that differ most" not in bare
    assert "Interpreter, system and packages are the same." in bare


def test_nothing_in_it_can_forge_the_page() -> None:
    training = {
        "script": HOSTILE,
        "seed": HOSTILE,
        "inputs": [{"name": HOSTILE, "uri": HOSTILE}],
    }
    page = write_exit_report(
        report(
            model=HOSTILE,
            platform=HOSTILE,
            to_platform=HOSTILE,
            scorer=HOSTILE,
            policy=HOSTILE,
            training=training,
            sample={"uri": HOSTILE, "rows": 1},
            environment=[{"name": HOSTILE, "from": HOSTILE, "to": HOSTILE}],
        ),
        Site(""),
    )
    assert "<script" not in page
    assert "\u202e" not in page
