"""`make up`: the demo's Airflow and MLflow, left running at the waiting gate; `make down`."""

from __future__ import annotations

import signal
import sys
import time

from demo.client import WaitError
from demo.deployment import ROOT
from demo.processes import DeploymentError, stop_referenced
from demo.steps import Story, train
from demo.world import DAG, ENGINEER, OWNER, VALIDATOR, World, open_world

FOLDER = ROOT / ".up"
ROLES = {
    ENGINEER: "engineer: built the model and asks for approval",
    OWNER: "model owner: one of two seats",
    VALIDATOR: "independent validator: the other seat",
    "admin": "administrator of Airflow: on no seat",
}


def up() -> int:
    """Start, run up to the gate, print where to go, and leave everything running."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()

    def say(message: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {message}", flush=True)

    world = open_world(FOLDER, say)
    try:
        world.start()
        say("Starting MLflow's server ...")
        mlflow_url = world.start_mlflow_server()
        story = Story(world)
        say(f"{ENGINEER} triggers {DAG} ...")
        say(train(story))
    except (DeploymentError, WaitError) as error:
        print(f"\nIt could not start: {error}", file=sys.stderr)
        world.deployment.stop()
        return 1
    world.deployment.detach()
    _print_addresses(world, mlflow_url, story.run)
    return 0


def _print_addresses(world: World, mlflow_url: str, run: str) -> None:
    url = world.deployment.url
    print(f"\nAirflow  {url}")
    print(f"  the waiting gate: {url}/dags/{DAG}/runs/{run}/tasks/gate/required_actions")
    print(f"MLflow   {mlflow_url}")
    print("\nSign in to Airflow as (name, password):")
    for user, role in ROLES.items():
        print(f"  {user:8} {world.deployment.passwords[user]}  {role}")
    print("\nCommands: `. .up/env`, then `.venv/bin/airflow mlgov status retail_pd`.")
    print("End it:   `make down`.")


def down() -> int:
    """Stop what `up` left running."""
    count = stop_referenced(FOLDER / "processes.json")
    print(f"Stopped {count} processes." if count else "Nothing is running.")
    return 0


if __name__ == "__main__":
    sys.exit(down() if sys.argv[1:] == ["down"] else up())
