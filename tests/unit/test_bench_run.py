"""What `make bench` says of a benchmark: a missed goal is shown, silence is not a yes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_run", BENCH / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RESULTS", tmp_path / ".bench" / "results.json")
    return module


def outcome(bench, code: str) -> tuple[int, dict]:
    (bench.HERE / "bench_one.py").write_text(code)
    status = bench.main()
    (result,) = json.loads(bench.RESULTS.read_text())
    return status, result


@pytest.mark.parametrize(
    ("printed", "met", "shown"),
    [
        ({"ratio": 1.1, "goal": "<= 1.2", "met": True}, True, "yes"),
        ({"ratio": 1.3, "goal": "<= 1.2", "met": False}, False, "NO"),
        ({"ratio": 1.1, "goal": "<= 1.2"}, False, "NO"),
        ({"ratio": 7.5}, True, "-"),
    ],
)
def test_a_goal_is_met_only_if_the_benchmark_says_so(bench, capsys, printed, met, shown):
    status, result = outcome(bench, f"print({json.dumps(json.dumps({'name': 'one', **printed}))})")
    assert status == 0
    assert result["met"] is met
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("one"))
    assert row.split()[-1] == shown


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("", "printed no JSON object"),
        ("print('done')", "printed no JSON object"),
        ("print([1])", "printed no JSON object"),
    ],
)
def test_a_benchmark_that_could_not_run_is_an_error(bench, capsys, code, error):
    status, result = outcome(bench, code)
    assert status == 1
    assert (result["met"], result["error"]) == (False, error)
    assert "NO" in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted(BENCH.glob("bench_*.py")), ids=lambda file: file.stem)
def test_every_benchmark_with_a_goal_says_whether_it_was_met(file):
    text = file.read_text()
    assert ('"goal"' in text) == ('"met"' in text)
