from __future__ import annotations

import sys
from pathlib import Path

import pytest

from airflow_mlgov.cli.installed import diagnose_packages

METADATA = """\
Metadata-Version: 2.4
Name: {name}
Version: {version}
{more}"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch):
    """Return a function that installs a distribution's metadata, and nothing else is installed."""
    kept = [place for place in sys.path if "site-packages" not in place]

    def install(name: str, version: str, more: str = "") -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(METADATA.format(name=name, version=version, more=more))

    import packaging.requirements  # noqa: F401 - loaded before its folder leaves the path

    monkeypatch.setattr(sys, "path", [str(tmp_path), *kept])
    return install


OURS = """\
Requires-Dist: apache-airflow<4,>=3.3
Requires-Dist: old-python; python_version < "3"
Provides-Extra: mlflow
Requires-Dist: mlflow-skinny<4,>=3.17; extra == "mlflow"
Requires-Dist: pyarrow>=18; extra == "mlflow"
Provides-Extra: lineage
Requires-Dist: openlineage>=2; extra == "lineage"
Provides-Extra: all
Requires-Dist: airflow-mlgov[lineage,mlflow]; extra == "all"
"""


def seen() -> dict[str, tuple[str, str, str]]:
    return {d.check: (d.state, d.detail, d.remedy) for d in diagnose_packages()}


def test_extras_present_missing_and_unfit(site) -> None:
    site("airflow-mlgov", "0.1.0", OURS)
    site("apache-airflow", "3.3.2")
    site("mlflow-skinny", "3.17.2")
    site("pyarrow", "20.0.0")
    found = seen()
    assert found["airflow-mlgov"] == ("ok", "0.1.0 on apache-airflow 3.3.2", "")
    assert found["extra mlflow"] == ("ok", "mlflow-skinny 3.17.2, pyarrow 20.0.0", "")
    assert found["extra lineage"] == (
        "missing",
        "not installed: openlineage",
        "pip install 'airflow-mlgov[lineage]'",
    )
    assert "extra all" not in found


def test_a_version_that_does_not_fit(site) -> None:
    site("airflow-mlgov", "0.1.0", OURS)
    site("apache-airflow", "3.1.0")
    site("mlflow-skinny", "2.9.0")
    site("pyarrow", "20.0.0")
    found = seen()
    state, detail, remedy = found["airflow-mlgov"]
    assert (state, remedy) == ("wrong", "pip install airflow-mlgov")
    assert "apache-airflow 3.1.0 (needs <4,>=3.3)" in detail
    state, detail, remedy = found["extra mlflow"]
    assert (state, remedy) == ("wrong", "pip install 'airflow-mlgov[mlflow]'")
    assert detail == "does not fit: mlflow-skinny 2.9.0 (needs <4,>=3.17)"


def test_a_bare_source_tree(site) -> None:
    state, detail, remedy = seen()["airflow-mlgov"]
    assert (state, remedy) == ("wrong", "pip install airflow-mlgov")
    assert "runs from its source" in detail
