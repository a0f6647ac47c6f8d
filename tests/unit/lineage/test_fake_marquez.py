"""The fake Marquez answers as the real one did, recording by recording and rule by rule.

Recordings 1 to 5 came from one server in this order, 6 from a server of its own. Compared are the
status and the whole body. Ids of versions and of nodes in the database differ: they are compared by
a mapping that must stay one to one over the whole series, so that what was bound to the same
version there is bound to the same version here. Times of creation and change are compared unless
they were the server's own clock. Ids of errors, and where in its source Java read a request, are
not compared. Lists that the database returns in no order are compared as sets.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from marquez import FakeMarquez

RECORDINGS = Path(__file__).parents[2] / "assets" / "marquez"
SERIES = sorted(RECORDINGS.glob("[1-5]-*.jsonl"))
POISONED = RECORDINGS / "6-poisoned-by-a-bad-namespace.jsonl"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UNORDERED = {
    "jobs",
    "runs",
    "inputs",
    "outputs",
    "inputDatasetVersions",
    "outputDatasetVersions",
}


@pytest.fixture
def fake() -> Iterator[FakeMarquez]:
    with FakeMarquez() as server:
        yield server


class Comparison:
    """Compares bodies, and remembers which id of the recording is which of ours."""

    def __init__(self) -> None:
        self.ours: dict[str, str] = {}
        self.theirs: dict[str, str] = {}

    def check(self, real: Any, here: Any, where: str) -> None:
        if isinstance(real, dict):
            assert isinstance(here, dict), where
            assert sorted(real) == sorted(here), where
            for key in real:
                self.check(real[key], here[key], f"{where}.{key}")
        elif isinstance(real, list):
            assert isinstance(here, list), where
            assert len(real) == len(here), where
            if where.endswith(".jobs"):  # by time; the order of equal ones is open
                assert [each["updatedAt"] for each in real] == [each["updatedAt"] for each in here]
            if where.endswith(".runs"):
                self.check(real[0], here[0], f"{where}[first]")
            if where.rpartition(".")[2] in _UNORDERED:
                real, here = sorted(real, key=_rank), sorted(here, key=_rank)
            for index, pair in enumerate(zip(real, here, strict=True)):
                self.check(*pair, f"{where}[{index}]")
        elif isinstance(real, str) and _UUID.fullmatch(real):
            assert isinstance(here, str), where
            assert self.ours.setdefault(real, here) == here, where
            assert self.theirs.setdefault(here, real) == real, where
        elif where.endswith("At") and "." in str(real):
            assert "." in here, where
        else:
            assert _plain(real) == _plain(here), where


def _plain(said: Any) -> Any:
    if not isinstance(said, str):
        return said
    return re.sub(r"\(ID [0-9a-f]{16}\)", "(ID)", said.partition("\n at [Source")[0])


def _rank(entry: Any) -> str:
    """Sort by what is the same here and there."""
    return _UUID.sub("", json.dumps(entry, sort_keys=True)) if isinstance(entry, dict) else ""


def exchanges(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ask(fake: FakeMarquez, method: str, path: str, request: Any = None, **query: Any) -> Any:
    target = fake.url + path + (f"?{urlencode(query)}" if query else "")
    body = None
    if request is not None:
        body = request.encode() if isinstance(request, str) else json.dumps(request).encode()
    asked = urllib.request.Request(target, body, {"Content-Type": "application/json"})
    asked.method = method
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            status, data = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, data = error.code, error.read().decode()
    try:
        return status, json.loads(data)
    except ValueError:
        return status, data


def replay(fake: FakeMarquez, path: Path, comparison: Comparison) -> int:
    """Ask what was asked, and compare; return how many answers were compared."""
    recorded = exchanges(path)
    for number, each in enumerate(recorded):
        where = f"{path.name}:{number + 1}"
        status, body = ask(fake, each["method"], each["path"], each["request"], **each["query"])
        assert status == each["status"], f"{where}: {body}"
        comparison.check(each["response"], body, where)
    return len(recorded)


def test_it_answers_as_the_real_one_did(fake: FakeMarquez) -> None:
    comparison = Comparison()
    assert len(SERIES) == 5
    assert sum(replay(fake, path, comparison) for path in SERIES) == 58
    assert len(comparison.ours) > 40


def test_a_poisoned_one_answers_as_the_real_one_did(fake: FakeMarquez) -> None:
    assert replay(fake, POISONED, Comparison()) == 4
    assert fake.is_poisoned
