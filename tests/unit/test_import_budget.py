"""What every DAG file pays when it imports our names: our own modules, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_mlgov

BENCH = Path(__file__).parents[1] / "bench" / "bench_imports.py"
HEAVY = {
    "alembic", "fastapi", "great_expectations", "lightgbm", "mlflow", "numpy", "openlineage",
    "pandas", "pyarrow", "scipy", "sklearn", "statsmodels",
}  # fmt: skip
ALONE = """
import json, sys
import airflow_mlgov
first = sorted(name for name in sys.modules if name.startswith("airflow"))
for name in airflow_mlgov.__all__:
    getattr(airflow_mlgov, name)
print(json.dumps([first, sorted(sys.modules)]))
"""


def printed(code: str):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def added() -> list[str]:
    spec = importlib.util.spec_from_file_location("bench_imports", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return printed(module.PROBE)["added"]


def test_beyond_airflow_only_our_own_modules_are_loaded(added):
    assert [name for name in added if name.partition(".")[0] != "airflow_mlgov"] == []


def test_every_public_name_was_loaded(added):
    assert set(airflow_mlgov._HOMES.values()) <= set(added)
    assert set(airflow_mlgov.__all__) == {*airflow_mlgov._HOMES, "__version__"}


def test_our_names_bring_no_heavy_library_even_with_airflow_counted():
    first, everything = printed(ALONE)
    assert first == ["airflow_mlgov"]
    assert sorted({name.partition(".")[0] for name in everything} & HEAVY) == []


def test_a_name_that_is_not_public_is_not_found():
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = airflow_mlgov.Nonsense
