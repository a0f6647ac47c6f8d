"""The operator on real rules, a real ledger and a real evidence store; the registry is a folder."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

import airflow_mlgov.wiring
from airflow_mlgov.errors import RegistryUnavailableError
from airflow_mlgov.operators.validate_model import ValidateModelOperator
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.findings import open_findings
from airflow_mlgov.service.ledger import EntryDraft

ROOT = Path(__file__).parents[3]
RUN = Source("retail_pd", "run-1", "train", -1, 1)
SCORERS = """
import json
from pathlib import Path

def linear(model_dir, frame):
    assert "DEFAULT" not in frame.columns
    return frame["x"] * json.loads((Path(model_dir) / "scorecard.json").read_text())["weight"]

def short(model_dir, frame):
    return frame["x"][:-1]

def unknowing(model_dir, frame):
    return [float("nan")] * len(frame)

def log_odds(model_dir, frame):
    return frame["x"] * 20 - 10

def broken(model_dir, frame):
    return frame["no such feature"]

constant = 0.5
"""


def load(name: str, file: Path):
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


FAKES = ROOT / "tests" / "fakes"
FolderRegistry = load("folder_registry", FAKES / "folder_registry.py").FolderRegistry
lineage = load("lineage_of_validations", ROOT / "tests" / "unit" / "lineage" / "conftest.py")
checks, schemas = lineage.checks, lineage.schemas


class Place:
    """Two samples, a registry, and a model that a run trained."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gov = airflow_mlgov.wiring.open_governance()
        self.registry = FolderRegistry(folder / "registry")
        for seed, name in enumerate(("development", "validation")):
            self.write(name, seed)

    def write(self, name: str, seed: int = 0, rows: int = 2000, **columns) -> None:
        rng = np.random.default_rng(seed)
        x = rng.beta(1, 4, rows)
        frame = {
            "x": x,
            "SEX": rng.integers(1, 3, rows),
            "AGE_BAND": rng.choice(["young", "old"], rows),
            "DEFAULT": (rng.random(rows) < x).astype(int),
        }
        pd.DataFrame(frame | columns).to_csv(self.folder / f"{name}.csv", index=False)

    def train(
        self,
        weight: float,
        variant: str = "candidate",
        source: Source = RUN,
        inputs: tuple[str, ...] = ("development.csv",),
    ) -> Digest:
        folder = self.folder / "model"
        folder.mkdir(exist_ok=True)
        (folder / "scorecard.json").write_text(json.dumps({"weight": weight}))
        manifest = hash_directory(folder)
        known = self.registry.register("retail_pd", folder, manifest, {})
        body = {
            "registry": "folder",
            "name": known.name,
            "version": known.version,
            "variant": variant,
            "uri": known.uri,
            "namespace": known.namespace,
        }
        self.put("model.registered", manifest.digest, body, source)
        self.put(
            "model.trained",
            manifest.digest,
            {
                "evidence_sha256": str(Digest.of(b"training record")),
                "inputs": [self.file(name) for name in inputs],
                "variant": variant,
                "code_sha256": str(Digest.of(b"code")),
            },
            source,
        )
        return manifest.digest

    def file(self, name: str) -> dict[str, str]:
        data = (self.folder / name).read_bytes()
        return {"name": name, "uri": f"file:///{name}", "sha256": str(Digest.of(data))}

    def put(self, kind: str, version: Digest, body: dict, source: Source) -> None:
        identity = (source.run_id, str(version))
        draft = EntryDraft(kind, "retail_pd", version, body, identity, source=source)
        self.gov.ledger.seal(self.gov.ledger.append(draft))

    def run(self, run_id: str = "run-1", **arguments) -> dict:
        chosen = {
            "model": "retail_pd",
            "development": str(self.folder / "development.csv"),
            "validation": str(self.folder / "validation.csv"),
            "target": "DEFAULT",
            "scorer": "scorers_of_the_test:linear",
        }
        operator = ValidateModelOperator(task_id="validate", **(chosen | arguments))
        task = SimpleNamespace(
            dag_id="retail_pd", run_id=run_id, task_id="validate", map_index=-1, try_number=1
        )
        return operator.execute({"ti": task})

    def kinds(self, *kinds: str) -> list:
        return self.gov.ledger.view().select(*kinds)

    def refused(self, **arguments) -> str:
        with pytest.raises(AirflowFailException) as caught:
            self.run(**arguments)
        assert self.kinds("model.validated", "finding.opened") == []
        return str(caught.value)


@pytest.fixture
def place(tmp_path, monkeypatch):
    for kind in ("inventory", "policy"):
        shutil.copytree(ROOT / "dags" / kind, tmp_path / kind)
        monkeypatch.setenv(f"AIRFLOW__MLGOV__{kind.upper()}_PATH", str(tmp_path / kind))
    inventory = tmp_path / "inventory" / "retail_pd.yaml"
    attributes = "protected_attributes: [SEX, AGE_BAND]"
    text = re.sub(r"protected_attributes: \[.*\]", attributes, inventory.read_text())
    assert attributes in text
    inventory.write_text(text)
    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("AIRFLOW__MLGOV__EVIDENCE_URL", f"file://{tmp_path}/evidence")
    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", str(tmp_path / "keys"))
    (tmp_path / "scorers_of_the_test.py").write_text(SCORERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "scorers_of_the_test", raising=False)
    place = Place(tmp_path)
    monkeypatch.setattr(airflow_mlgov.wiring, "open_registry", lambda conn_id: place.registry)
    return place


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What the task tells its log; Airflow's own logger binds its stream before pytest does."""
    lines: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger = logging.getLogger("airflow_mlgov.task_of_the_test")
    logger.setLevel(logging.INFO)
    monkeypatch.setattr(logger, "handlers", [Listening()])
    monkeypatch.setattr(ValidateModelOperator, "log", logger)
    return lines


def test_validates_the_candidate_of_its_run_against_the_challenger_of_its_run(place, said):
    place.train(0.5, "challenger")
    version = place.train(1.0)
    place.train(0.1, source=Source("retail_pd", "run-2", "train", -1, 1))
    handed_on = place.run()
    entry = place.kinds("model.validated")[0]
    assert entry.version == version
    assert (entry.source.run_id, entry.source.task_id) == ("run-1", "validate")
    assert handed_on["version"] == str(version)
    assert handed_on["evidence"] == entry.body["evidence_sha256"]
    assert handed_on["results"] == entry.body["results"]
    report = json.loads(place.gov.evidence.get(Digest.parse(handed_on["evidence"])))
    bytes_read = (place.folder / "validation.csv").read_bytes()
    assert report["data"]["validation"]["sha256"] == str(Digest.of(bytes_read))
    assert report["challenger"]["version"] == handed_on["challenger"]
    assert report["challenger"]["z"] == 0.0
    assert len(report["results"]) == 11
    lines = [line for line in said if line.startswith(("PASS", "WARN", "FAIL"))]
    assert len(lines) == 11
    assert lines[0].startswith("PASS Area under the ROC curve 0.")
    assert said[-1].endswith(f"report {handed_on['evidence']}.")
    json.dumps(handed_on, allow_nan=False)


def test_failed_tests_do_not_fail_the_task(place):
    place.train(0.3)
    handed_on = place.run(challenger=None)
    assert handed_on["passed"] is False
    found = open_findings(place.gov.ledger.view(), "retail_pd")
    assert [f.id for f in found] == handed_on["findings"]
    assert "calibration.intercept" in {f.test for f in found}


def test_named_versions(place):
    version, other = place.train(1.0), place.train(0.9)
    later = place.run("run-9", version=str(version), challenger=str(other))
    assert (later["version"], later["challenger"]) == (str(version), str(other))


def test_a_scorer_may_be_a_function_and_the_challenger_have_its_own(place):
    other = place.train(0.9)
    place.train(1.0)
    asked: list[str] = []

    def spy(model_dir, frame):
        asked.append((model_dir / "scorecard.json").read_text())
        return 1 - frame["x"]

    place.run(challenger=str(other), challenger_scorer=spy)
    assert asked == ['{"weight": 0.9}']


def test_parquet(place):
    for name in ("development", "validation"):
        frame = pd.read_csv(place.folder / f"{name}.csv")
        frame.to_parquet(place.folder / f"{name}.parquet")
    place.train(1.0, inputs=("development.csv", "development.parquet"))
    files = {n: f"file://{place.folder}/{n}.parquet" for n in ("development", "validation")}
    from_parquet, from_csv = place.run(**files), place.run()
    assert from_parquet["results"] == from_csv["results"]
    assert from_parquet["evidence"] != from_csv["evidence"]


def test_other_bytes_in_the_registry_are_refused(place):
    place.train(1.0)
    (place.registry.folder("retail_pd", "1") / "scorecard.json").write_text('{"weight": 0.9}')
    assert "is to be validated" in place.refused()


@pytest.mark.parametrize(
    ("scorer", "problem"),
    [
        ("scorers_of_the_test:short", "1999 probabilities for the 2000 rows"),
        ("scorers_of_the_test:unknowing", "2000 of 2000 are missing or infinite"),
        ("scorers_of_the_test:log_odds", "outside [0, 1]"),
        ("scorers_of_the_test:broken", "KeyError"),
        ("scorers_of_the_test:constant", "is no function"),
        ("scorers_of_the_test:absent", "cannot be loaded"),
        ("no_such_module:score", "cannot be loaded"),
        ("score", "not of the form 'module:function'"),
    ],
)
def test_a_scorer_that_cannot_be_used(place, scorer, problem):
    place.train(1.0)
    assert problem in place.refused(scorer=scorer)


def test_data_that_cannot_be_used(place):
    place.train(1.0)
    assert "no column 'GOOD'" in place.refused(target="GOOD")
    assert "Cannot read" in place.refused(validation="/no/such/file.csv")
    assert ".xlsx" in place.refused(validation="/data/file.xlsx")
    assert "s3:// is not read" in place.refused(validation="s3://bucket/file.csv")
    (place.folder / "empty.csv").write_text("x,SEX,AGE_BAND,DEFAULT\n")
    assert "has no rows" in place.refused(validation=str(place.folder / "empty.csv"))
    (place.folder / "torn.parquet").write_bytes(b"PAR1 torn")
    assert "not a readable Parquet file" in place.refused(
        validation=str(place.folder / "torn.parquet")
    )
    (place.folder / "ragged.csv").write_text('x,DEFAULT\n1,2\n1,2,3,4\n"')
    assert "not a readable CSV file" in place.refused(validation=str(place.folder / "ragged.csv"))
    (place.folder / "bytes.csv").write_bytes(b"\xff\xfe\x00x")
    assert "not a readable CSV file" in place.refused(validation=str(place.folder / "bytes.csv"))


def test_samples_that_are_not_what_they_are_taken_for(place):
    place.train(1.0)
    development, validation = (
        str(place.folder / f"{n}.csv") for n in ("development", "validation")
    )
    same = place.refused(validation=development)
    assert same.count("development.csv") == 2
    assert "are the same data" in same
    swapped = place.refused(development=validation, validation=development)
    assert f"validation.csv ({place.file('validation.csv')['sha256']}) is not what" in swapped
    version = place.train(0.5, inputs=("development.csv", "validation.csv"))
    seen = place.refused(version=str(version))
    assert f"validation.csv ({place.file('validation.csv')['sha256']}) is what version" in seen


def test_columns_that_cannot_be_used(place):
    place.train(1.0)
    place.write("validation", DEFAULT=[1] * 2000)
    assert "one class" in place.refused()
    place.write("validation", DEFAULT=[None, 1] * 1000)
    assert "missing" in place.refused()
    place.write("validation", DEFAULT=["no", "yes"] * 1000)
    assert "not numbers" in place.refused()
    place.write("validation")
    frame = pd.read_csv(place.folder / "validation.csv").drop(columns=["SEX"])
    frame.to_csv(place.folder / "validation.csv", index=False)
    assert "no column 'SEX'" in place.refused()


def test_versions_that_cannot_be_used(place):
    assert "registered no candidate" in place.refused()
    version = place.train(1.0)
    assert "its own challenger" in place.refused(challenger=str(version))
    unknown = str(Digest.of(b"unknown"))
    assert unknown in place.refused(version=unknown)
    assert "not a SHA-256" in place.refused(version="7")
    assert "not in the inventory" in place.refused(model="other")


def test_a_registry_out_of_reach_is_retried(place, monkeypatch):
    place.train(1.0)

    def away(name, manifest):
        raise RegistryUnavailableError("The registry cannot be reached.")

    monkeypatch.setattr(place.registry, "find", away)
    with pytest.raises(AirflowException) as caught:
        place.run()
    assert not isinstance(caught.value, AirflowFailException)


def test_lineage_names_samples_and_versions_before_and_after(place, schemas):
    version = place.train(1.0)
    operator = ValidateModelOperator(
        task_id="validate",
        model="retail_pd",
        development=str(place.folder / "development.csv"),
        validation=str(place.folder / "validation.csv"),
        target="DEFAULT",
        scorer="scorers_of_the_test:linear",
    )
    kept = []
    operator.keep_lineage = lambda build: kept.append(build())
    task = SimpleNamespace(
        dag_id="retail_pd", run_id="run-1", task_id="validate", map_index=-1, try_number=1
    )
    before = operator.lineage_before({"ti": task})
    handed_on = operator.execute({"ti": task})
    after = kept[0]
    assert [d.name for d in before.inputs] == [d.name for d in after.inputs]
    assert before.outputs == ()
    assert [d.name.namespace for d in after.outputs]
    assert str(version) in str(after.inputs[0].facets["documentation"])
    assert Digest.parse(handed_on["evidence"]).hex[:12] in str(after.outputs[0].name)
    event = lineage.complete_event(after)
    schemas.check_event(event, "validate")
    stated = event["run"]["facets"]["mlgov_validation"]
    report = json.loads(place.gov.evidence.get(Digest.parse(handed_on["evidence"])))
    plan = json.dumps(report["planned"], sort_keys=True, separators=(",", ":")).encode()
    assert stated["plan_sha256"] == str(Digest.of(plan))
    assert stated["policy_sha256"] == report["policy_sha256"]
    assert (stated["results"], stated["findings"], stated["passed"]) == (
        handed_on["results"],
        handed_on["findings"],
        handed_on["passed"],
    )
    assert stated["validation_sha256"] == report["data"]["validation"]["sha256"]
    (entry,) = place.gov.ledger.view().select("model.validated")
    assert event["run"]["facets"]["mlgov_checkpoint"]["entry_key"] == entry.key


def test_what_is_templated():
    assert set(ValidateModelOperator.template_fields) == {
        "model", "development", "validation", "target", "version", "challenger",
    }  # fmt: skip
