"""An Airflow of its own for a script: what tests of the api-server's routes ask it in a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# Into a file: what Airflow logs from other threads can come between any two writes to stdout.
SAY = """
def say(value):
    import json, os, pathlib
    pathlib.Path(os.environ["SAID"]).write_text(json.dumps(value))

"""


@pytest.fixture(scope="session")
def ask_airflow() -> Callable[..., Any]:
    """Return what runs a script beside an empty Airflow and returns what it says with `say`."""

    def ask(script: str, folder: Path, env: Mapping[str, str], given: object = None) -> Any:
        said = folder / "said.json"
        environment = {
            **os.environ,
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
            "AIRFLOW__API_AUTH__JWT_SECRET": "only for this test, only for this test",
            "AIRFLOW__MLGOV__LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}",
            "AIRFLOW__MLGOV__EVIDENCE_URL": f"file://{folder / 'evidence'}",
            "AIRFLOW__MLGOV__KEYS_DIR": str(folder / "keys"),
            "AIRFLOW__MLGOV__SEEN_DIR": str(folder / "seen"),
            "AIRFLOW__MLGOV__INVENTORY_PATH": str(ROOT / "dags" / "inventory"),
            "AIRFLOW__MLGOV__POLICY_PATH": str(ROOT / "dags" / "policy"),
            "PYTHONPATH": str(ROOT),
            "SAID": str(said),
            **env,
        }
        environment.pop("AIRFLOW__CORE__UNIT_TEST_MODE", None)
        file = folder / "script.py"  # Airflow keeps a DAG's code, so that it needs a file
        file.write_text(SAY + script)
        done = subprocess.run(
            [sys.executable, str(file)],
            input=json.dumps(given),
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert said.exists(), done.stdout[-2000:] + done.stderr[-4000:]
        return json.loads(said.read_text())

    return ask
