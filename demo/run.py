"""`make demo`: one credit model, governed end to end on a live Airflow, in one command."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from demo.client import ApiError, WaitError
from demo.deployment import ROOT
from demo.processes import DeploymentError
from demo.report import Result, summary, table, write_summary
from demo.steps import STEPS, Step, StepError, Story
from demo.world import World, open_world

FOLDER = ROOT / ".demo"
_TRACE = "trace --model retail_pd --version 1"


def main() -> int:
    """Run every step; 0 only if each came out as it should."""
    signal.signal(signal.SIGTERM, _leave)
    began = time.monotonic()

    def say(message: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {message}", flush=True)

    world = open_world(FOLDER, say)
    story = Story(world)
    with _running(world):
        try:
            world.start()
        except (DeploymentError, WaitError) as error:
            print(f"\nThe demo could not start: {error}", file=sys.stderr)
            return 1
        results = _run_steps(story)
        say("Stopping Airflow ...")
    lineage = world.deployment.export_lineage()
    document = summary(story, results, lineage, time.monotonic() - began)
    write_summary(world.folder / "summary.json", document)
    as_it_should = all(result.outcome == result.step.wanted for result in results)
    _print_end(results, document["seconds"], as_it_should)
    return 0 if as_it_should else 1


@contextmanager
def _running(world: World) -> Iterator[None]:
    try:
        yield
    finally:
        world.deployment.stop()


def _run_steps(story: Story) -> list[Result]:
    results: list[Result] = []
    for step in STEPS:
        if results and results[-1].outcome == "failed":
            results.append(Result(step, "failed", "not reached"))
            continue
        story.world.say(f"{step.who} {step.what} ...")
        results.append(_run_step(story, step))
        story.world.say(f"  -> {results[-1].detail}")
    return results


def _run_step(story: Story, step: Step) -> Result:
    try:
        return Result(step, step.wanted, step.act(story))
    except Exception as error:  # noqa: BLE001 - the demo reports whatever went wrong, and ends
        expected = isinstance(error, StepError | ApiError | WaitError)
        detail = str(error) if expected else f"{type(error).__name__}: {error}"
        if story.run:
            detail += "\n" + story.world.client("admin").failures("retail_pd", story.run)
        return Result(step, "failed", f"{detail}\n{story.world.deployment.tails()}")


def _print_end(results: list[Result], seconds: float, as_it_should: bool) -> None:
    print("\n" + table(results) + "\n")
    print(f"Everything is in {FOLDER}. After `. .demo/env`, look at it with, for instance:")
    for command in ("status retail_pd", "ledger verify", "ledger show", "finding list", _TRACE):
        print(f"  .venv/bin/airflow mlgov {command}")
    verdict = "Every step came out as it should" if as_it_should else "SOMETHING WENT WRONG"
    print(f"\n{verdict} ({seconds:.0f} s).")


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
