"""Modules that our public names load beyond ``airflow.sdk`` and the Airflow classes they extend.

Counted in modules, not milliseconds: every DAG file pays for them each time it is parsed.
"""

from __future__ import annotations

import json
import subprocess
import sys

PROBE = """
import json, sys
import airflow.sdk
from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator
from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory
from airflow.sdk.bases.operatorlink import BaseOperatorLink
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowException
from airflow.sdk.execution_time import hitl
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.providers.standard.operators.python import PythonOperator
before = set(sys.modules)
import airflow_mlgov
for name in airflow_mlgov.__all__:
    getattr(airflow_mlgov, name)
added = sorted(set(sys.modules) - before)
print(json.dumps({"before": len(before), "added": added}))
"""


def main() -> None:
    """Print how many modules are loaded, and which are not ours."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], stdout=subprocess.PIPE, text=True, check=True
    )
    counted = json.loads(done.stdout.strip().splitlines()[-1])
    added, before = counted["added"], counted["before"]
    foreign = [name for name in added if name.partition(".")[0] != "airflow_mlgov"]
    result = {
        "name": "imports",
        "ratio": (before + len(added)) / before,
        "goal": "no modules but ours",
        "met": not foreign,
        "own_modules": len(added) - len(foreign),
        "foreign_modules": foreign,
        "modules_before": before,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
