"""Every Airflow process dies while gates stand in every phase of a vote; gates fail too.

No vote may be lost and none counted twice. There is a gate for each phase, all of them at once in
one live Airflow, so that each death meets every phase. Gates whose task runs are held by their DAG
(`dags/held.py`) until the test lets them go.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]

OWNER, VALIDATOR, REQUESTER = "olivia", "victor", "rita"
BOTH = (OWNER, VALIDATOR)
PROCESSES = ("dag-processor", "triggerer", "task-api-server", "api-server", "scheduler")
PAIRS = [f"pair{number}" for number in range(10)]
FAIL = """
import sys
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

with create_session() as session:
    gates = select(TaskInstance).where(TaskInstance.task_id == "gate")
    for gate in session.scalars(gates.where(TaskInstance.run_id.in_(sys.argv[1:]))):
        gate.handle_failure(error="made to fail by a test", session=session)
"""


@dataclass(frozen=True)
class Phase:
    """Where a gate stands.

    Attributes:
        name: Also the name of its model.
        votes: Who has a vote on record.
        left: Who has still to answer, in order; one whose answer Airflow never had repeats it.
        held: Where its task is held; none: it is parked or has ended.
        unforwarded: Whose vote is on record while Airflow has not got the answer.
        ended: Whether the gate has ended and what it protects waits for a slot.
    """

    name: str
    votes: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    held: str = ""
    unforwarded: str = ""
    ended: bool = False

    @property
    def is_decided(self) -> bool:
        return self.held == "decided" or self.ended


PHASES = [
    Phase("before_the_request", left=BOTH, held="begun"),
    Phase("parked", left=BOTH),
    Phase("between_the_votes", (OWNER,), (VALIDATOR,)),
    Phase("woken", (OWNER,), (VALIDATOR,), held="begun"),
    Phase("counted", (OWNER,), (VALIDATOR,), held="counted"),
    Phase("decided", BOTH, held="decided"),
    Phase("ended", BOTH, ended=True),
    Phase("unforwarded_first", (OWNER,), (OWNER, VALIDATOR), unforwarded=OWNER),
    Phase("unforwarded_alone", (OWNER,), (VALIDATOR,), unforwarded=OWNER),
    Phase("unforwarded_last", BOTH, (VALIDATOR,), unforwarded=VALIDATOR),
    # What clears or fails a gate also wakes it: it then finds the vote that Airflow has not got.
    Phase("unforwarded_cleared", (OWNER,), (VALIDATOR,), unforwarded=OWNER),
    Phase("unforwarded_failed", (OWNER,), (VALIDATOR,), unforwarded=OWNER),
]
STABLE = [phase for phase in PHASES if not phase.unforwarded]


@dataclass
class Gates:
    """The gates of all phases in a live Airflow."""

    live: Any
    holds: Path

    def run(self, phase: Phase) -> Any:
        return self.live.runs[phase.name]

    def flag(self, phase: Phase) -> Path:
        return self.holds / f"{phase.name}.{phase.held}"

    def pid(self, phase: Phase) -> int:
        """Process that is held now; 0 if none is."""
        with suppress(OSError, ValueError):
            pid = int(self.flag(phase).with_suffix(".pid").read_text())
            if psutil.pid_exists(pid) and self.run(phase).state("gate") == "running":
                return pid
        return 0

    def check(self, phase: Phase, *, gone: int = 0) -> None:
        """Wait until a gate stands in its phase again; the ledger says what it said before.

        Args:
            phase: The phase.
            gone: A process that was held and is no longer meant.
        """
        run = self.run(phase)
        if phase.held:
            wait_until(lambda: self.pid(phase) not in (0, gone), f"{phase.name} is not held")
        elif phase.ended:
            wait_until(lambda: run.state("gate") == "success", f"{phase.name} does not end")
            assert run.state("promote") in ("scheduled", "None")
        else:
            assert run.wait_gate()["response_received"] is False
        assert run.voters() == list(phase.votes)
        assert run.refused_votes() == []
        assert len(run.entries("approval.requested")) == (phase.name != "before_the_request")
        assert len(run.entries("approval.granted")) == phase.is_decided
        assert run.alias is None

    def answer(self, phase: Phase, user: str) -> None:
        run = self.run(phase)
        run.wait_gate()
        run.answer(user)


def wait_until(holds: Callable[[], bool], otherwise: str, timeout_s: float = 600) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.2)


def kill(live: Any, name: str) -> None:
    """Kill a component with all that it started; nothing of it gets a last word."""
    root = psutil.Process(live.deployment.components[name].process.pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    live.deployment.components[name].process.wait(timeout=30)


@contextmanager
def locked(live: Any) -> Iterator[None]:
    """Nobody writes to Airflow's database meanwhile; whoever wants to, waits."""
    database = live.deployment.home / "airflow.db"
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def answer_nobody(run: Any, user: str) -> None:
    """Answer an api-server that dies meanwhile."""
    with pytest.raises(httpx.HTTPError):
        run.answer(user)


def kill_between_vote_and_answer(gates: Gates, phase: Phase) -> None:
    """Kill the api-server when a vote is on record and Airflow waits to write the answer."""
    run = gates.run(phase)
    run.wait_gate()
    run.live.client(phase.unforwarded)  # signed in: that writes too
    with ThreadPoolExecutor(1) as people:
        with locked(gates.live):
            answer = people.submit(answer_nobody, run, phase.unforwarded)
            wait_until(lambda: run.voters() == list(phase.votes), "the vote is missing")
            kill(gates.live, "api-server")
        answer.result()
    gates.live.deployment.restart("api-server", grace_s=0)


def reach(gates: Gates) -> None:
    """Bring every gate into its phase."""
    for phase in STABLE:
        if phase.held and phase.votes:
            gates.run(phase).wait_gate()
            if phase.held != "decided":
                gates.flag(phase).touch()
    for phase in PHASES:
        if phase.votes and phase.unforwarded != OWNER:
            gates.answer(phase, OWNER)
    for phase in PHASES:
        if phase.is_decided:
            gates.run(phase).wait_gate()
            if phase.held:
                gates.flag(phase).touch()
            gates.run(phase).answer(VALIDATOR)
    for phase in PHASES:
        if phase.unforwarded:
            kill_between_vote_and_answer(gates, phase)
    for phase in PHASES:
        gates.check(phase)


@pytest.fixture(scope="module")
def gates(e2e: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gates]:
    folder = tmp_path_factory.mktemp("restarts")
    holds = folder / "holds"
    holds.mkdir()
    names = [phase.name for phase in PHASES] + PAIRS
    for phase in PHASES:
        if phase.held and not phase.votes:
            (holds / f"{phase.name}.{phase.held}").touch()
    settings = {
        "MLGOV_TEST_HOLDS": str(holds),
        # A task that died with its scheduler is missed after 5 minutes by default.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    }
    dags = Path(__file__).parent / "dags"
    with e2e.start_live(folder, names, dags=dags, extra_env=settings, parallelism=8) as live:
        pool = {"name": "promotions", "slots": 0, "description": "closed until the end"}
        live.client("admin").call("POST", "/api/v2/pools", pool)
        for name in names:
            version = live.make_candidate(name)
            live.runs[name] = live.trigger(name, REQUESTER, version=version)
        made = Gates(live, holds)
        reach(made)
        yield made


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_that_dies_changes_no_vote(gates, process):
    held = {phase.name: gates.pid(phase) for phase in PHASES if phase.held}
    kill(gates.live, process)
    gates.live.deployment.restart(process, grace_s=0)
    for phase in PHASES:
        # With the scheduler the tasks die that it has started.
        gates.check(phase, gone=held.get(phase.name, 0) if process == "scheduler" else 0)


def test_a_cleared_gate_comes_back_to_where_it_stood(gates):
    cleared = [phase for phase in PHASES if phase in STABLE or "cleared" in phase.name]
    held = {phase.name: gates.pid(phase) for phase in cleared if phase.held}
    client = gates.live.client(REQUESTER)
    for phase in cleared:
        run = gates.run(phase)
        assert "gate" in client.clear(run.dag, run.id, "gate", downstream=phase.ended)
    for phase in cleared:
        gates.check(phase, gone=held.get(phase.name, 0))


def test_a_gate_that_fails_is_tried_again_from_where_it_stood(gates):
    killed = {phase.name: gates.pid(phase) for phase in STABLE if phase.held}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    parked = [p for p in PHASES if not p.held and not p.ended]
    failed = [p for p in parked if p in STABLE or "failed" in p.name]
    subprocess.run(
        [gates.live.deployment.python, "-c", FAIL, *(gates.run(phase).id for phase in failed)],
        env=gates.live.deployment.env,
        check=True,
        timeout=120,
    )
    for phase in failed:
        assert gates.run(phase).state("gate") != "awaiting_input"
    for phase in (*failed, *(phase for phase in STABLE if phase.held)):
        gates.check(phase, gone=killed.get(phase.name, 0))


def test_in_the_end_every_vote_is_counted_once(gates):
    for phase in PHASES:
        if phase.held:
            gates.flag(phase).unlink()
    for number in range(2):
        for phase in PHASES:
            if number < len(phase.left):
                gates.answer(phase, phase.left[number])
    admin = gates.live.client("admin")
    opened = {"pool": "promotions", "slots": 8, "include_deferred": False}
    admin.call("PATCH", "/api/v2/pools/promotions", opened)
    for phase in PHASES:
        run = gates.run(phase)
        assert run.wait("promote", "success") == "success", phase.name
        assert run.voters() == list(BOTH), phase.name
        assert run.refused_votes() == [], phase.name
        assert run.alias == run.version
        for kind in ("approval.requested", "approval.granted", "approval.consumed"):
            assert len(run.entries(kind)) == 1, (phase.name, kind)
        assert run.entries("approval.vote_voided") == []


def test_two_approvers_in_the_same_second_ten_times_in_a_row(gates):
    runs = [gates.live.runs[name] for name in PAIRS]
    for run in runs:
        run.wait_gate()
        with ThreadPoolExecutor(2) as people:
            list(people.map(run.answer, BOTH))
        first, second = (entry.at for entry in run.entries("approval.voted"))
        assert (second - first).total_seconds() < 1
    for run in runs:
        assert run.wait("promote", "success") == "success"
        assert sorted(run.voters()) == sorted(BOTH)
        assert run.refused_votes() == []
        assert len(run.entries("approval.granted")) == 1
