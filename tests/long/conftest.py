"""Runs a piece of work in a process that strace kills, or whose calls it fails, one at a time.

Beside it: what starts a live Airflow for the tests that take minutes of one.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Say: TypeAlias = Callable[[str], None]
Work: TypeAlias = Callable[[Say], None]

TESTS = Path(__file__).parents[1]
_PR_SET_PTRACER, _ANY = 0x59616D61, -1


def _load(place: str) -> Any:
    name = f"{place.removesuffix('.py').replace('/', '_')}_of_long"
    spec = importlib.util.spec_from_file_location(name, TESTS / place)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_unit = _load("unit/conftest.py")
postgres, postgres_database = _unit.postgres, _unit.postgres_database
postgres_url = _unit.postgres_url


@pytest.fixture(scope="session")
def e2e() -> Any:
    """What starts and drives a live Airflow in the end-to-end tests."""
    return _load("e2e/conftest.py")


@pytest.fixture(scope="session")
def bypasses() -> Any:
    """The ways round a gate that the end-to-end tests try."""
    return _load("e2e/test_bypasses.py")


@dataclass(frozen=True)
class Ended:
    """How a traced process ended.

    Attributes:
        was_killed: Whether SIGKILL ended it.
        said: What it said before, a line each.
        calls: The calls that were traced, by name.
        was_injected: Whether strace did to a call what it was told to.
    """

    was_killed: bool
    said: list[str]
    calls: Counter[str]
    was_injected: bool


class Traced:
    """A process of its own that does the work under strace.

    It is forked from this one, which has imported everything: a process takes 50 ms, not a second.
    """

    def __init__(self, log: Path, work: Work, *strace: str) -> None:
        self._log = log
        self._go, self._out = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._work(work)
        os.close(self._go[0])
        os.close(self._out[1])
        self._strace = subprocess.Popen(
            ["strace", "-f", "-o", str(log), "-p", str(self.pid), *strace],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._strace.stderr is not None
        first = self._strace.stderr.readline()
        assert "attached" in first, first
        os.close(self._go[1])  # lets it begin

    def _work(self, work: Work) -> None:
        code = 1
        try:
            os.close(self._go[1])
            # Where only a parent may trace, strace, which is none, is allowed to.
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
            os.readv(self._go[0], [bytearray(1)])
            work(self._say)
            code = 0
        except Exception as error:  # noqa: BLE001
            self._say(f"RAISED {error!r}")
        finally:
            os._exit(code)

    def _say(self, text: str) -> None:
        # Not with `write`, which may be the very call that is failed.
        os.writev(self._out[1], [f"{text}\n".encode()])

    def wait(self) -> Ended:
        with os.fdopen(self._out[0]) as out:
            said = out.read().splitlines()
        _, status = os.waitpid(self.pid, 0)
        assert self._strace.stderr is not None
        self._strace.communicate(timeout=60)
        log = self._log.read_text(errors="replace")
        assert not any(line.startswith("RAISED") for line in said), said
        return Ended(
            os.WIFSIGNALED(status),
            said,
            Counter(re.findall(r"^\d+ +(\w+)\(", log, flags=re.MULTILINE)),
            "INJECTED" in log or "killed by SIGKILL" in log,
        )


@pytest.fixture(scope="session")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Traced]:
    """Return a function that starts work in a process under strace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian package strace)")
    log = tmp_path_factory.mktemp("strace") / "log"
    return lambda work, *strace: Traced(log, work, *strace)


def every_call(calls: Counter[str]) -> list[tuple[str, int]]:
    """Return the calls one by one, as (name, which of that name)."""
    return [(name, n) for name in sorted(calls) for n in range(1, calls[name] + 1)]


@pytest.fixture(scope="session")
def each() -> Callable[[Counter[str]], list[tuple[str, int]]]:
    return every_call
