from __future__ import annotations

import json
import subprocess
import textwrap
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    DataError,
    EvidenceError,
    LedgerUnavailableError,
    RegistryUnavailableError,
    TrainingError,
)
from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.train import train
from airflow_mlgov.service.training_order import TrainingOrder

SCRIPT = """
    import json, os, pathlib
    job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
    out = pathlib.Path(job["output_dir"])
    (out / "model").mkdir()
    data = pathlib.Path(job["inputs"]["development"]).read_text()
    (out / "model" / "scorecard.json").write_text(json.dumps([job["seed"], data]))
    (out / "metrics.json").write_text('{"auc": 0.77, "rows": 3}')
    signature = {"inputs": [{"name": "PAY_0", "type": "long"}], "output": "pd"}
    (out / "signature.json").write_text(json.dumps(signature))
    print("trained")
"""


@pytest.fixture
def order(tmp_path: Path) -> TrainingOrder:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "dev.csv").write_text("PAY_0,DEFAULT\n1,0\n")
    return TrainingOrder(
        model="retail_pd",
        script=folder / "train.py",
        inputs={"development": str(tmp_path / "dev.csv")},
        parameters={"rate": 0.1},
        seed=42,
        source=Source("retail_pd", "run-7", "train", -1, 1),
        developer=Person("erin", "Erin"),
    )


class Calls:
    """Everything that outlives a training, in the order in which it was done."""

    def __init__(self, world) -> None:
        self.names: list[str] = []
        self._wrap(world.gov.evidence, "put", lambda *_a, **_k: "evidence")
        self._wrap(world.registry, "register", lambda *_a, **_k: "registry")
        self._wrap(world.gov.ledger, "append", lambda draft, **_k: draft.kind)

    def _wrap(self, thing: object, name: str, label) -> None:
        inner = getattr(thing, name)

        def outer(*args: object, **kwargs: object) -> object:
            self.names.append(label(*args, **kwargs))
            return inner(*args, **kwargs)

        setattr(thing, name, outer)


def run(world, order: TrainingOrder, log=lambda _line: None):
    world.clock.moment += timedelta(seconds=5)
    return train(order, world.gov, LocalPlatform(), world.registry, log)


def spoil(order: TrainingOrder, *lines: str) -> TrainingOrder:
    source = textwrap.dedent(SCRIPT) + "\n".join(lines) + "\n"
    order.script.write_text(source)
    return order


def test_a_trained_model_is_registered_and_on_record(world, order) -> None:
    lines: list[str] = []
    calls = Calls(world)
    trained = run(world, order, lines.append)
    assert lines == ["trained"]
    assert calls.names == ["evidence", "registry", "model.trained", "model.registered"]

    made, registered = world.kinds("model.trained", "model.registered")
    data = Digest.of(Path(order.inputs["development"]).read_bytes())
    code = Digest.of(order.script.read_bytes())
    uri = Path(order.inputs["development"]).as_uri()
    assert made.version == registered.version == trained.manifest.digest
    assert made.body == {
        "evidence_sha256": str(trained.evidence),
        "inputs": [{"name": "development", "uri": uri, "sha256": str(data)}],
        "variant": "candidate",
        "code_sha256": str(code),
    }
    assert made.person("developer") == Person("erin", "Erin")
    assert registered.body == {
        "registry": "folder",
        "name": "retail_pd",
        "version": "1",
        "variant": "candidate",
        "uri": "folder://registry/retail_pd/1",
        "namespace": "folder://registry",
    }
    stored = world.registry.folder("retail_pd", "1") / "scorecard.json"
    assert json.loads(stored.read_text()) == [42, "PAY_0,DEFAULT\n1,0\n"]
    assert trained.as_json() == {
        "model": "retail_pd",
        "version": str(trained.manifest.digest),
        "registry_version": "1",
        "uri": "folder://registry/retail_pd/1",
        "variant": "candidate",
        "metrics": {"auc": 0.77, "rows": 3},
    }


def test_the_training_record_says_where_the_model_comes_from(world, order, tmp_path) -> None:
    (order.script.parent / "features.py").write_text("COLUMNS = []\n")
    trained = run(world, order)
    record = json.loads(world.gov.evidence.get(trained.evidence))
    assert set(record) == {
        "type", "v", "model", "version", "variant", "platform", "script", "code_sha256",
        "code_files", "git_commit", "git_is_clean", "environment", "seed", "parameters", "inputs",
        "metrics", "signature", "manifest", "source", "started_at", "finished_at", "duration_s",
    }  # fmt: skip
    assert (record["type"], record["v"], record["script"]) == ("training_record", 1, "train.py")
    assert set(record["code_files"]) == {"train.py", "features.py"}
    assert record["code_files"]["train.py"] == record["code_sha256"]
    assert record["git_commit"] is None
    assert record["inputs"][0]["size"] == (tmp_path / "dev.csv").stat().st_size
    assert record["manifest"] == trained.manifest.as_json()
    assert record["signature"]["output"] == "pd"
    packages = record["environment"]["packages"]
    assert packages == sorted(packages)
    assert any(package.startswith("apache-airflow==") for package in packages)
    assert record["source"]["run_id"] == "run-7"
    assert "try_number" not in record["source"]


def test_the_commit_is_recorded_and_whether_the_code_is_as_committed(world, order) -> None:
    folder = order.script.parent
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)

    def code() -> tuple[str, bool]:
        record = json.loads(world.gov.evidence.get(run(world, order).evidence))
        return record["git_commit"], record["git_is_clean"]

    assert code() == (head.stdout.strip(), True)
    (folder / "features.py").write_text("")
    assert code() == (head.stdout.strip(), False)


def test_a_retry_with_the_same_result_adds_nothing(world, order) -> None:
    first = run(world, order)
    size = world.gov.ledger.view().checkpoint.size
    second = run(world, replace(order, source=replace(order.source, try_number=2)))
    assert second.evidence == first.evidence
    assert second.registered == first.registered
    assert world.gov.ledger.view().checkpoint.size == size


def test_a_cleared_task_of_another_run_is_on_record_again(world, order) -> None:
    first = run(world, order)
    second = run(world, replace(order, source=replace(order.source, run_id="run-8")))
    assert second.registered == first.registered
    assert second.evidence != first.evidence
    assert len(world.kinds("model.trained")) == len(world.kinds("model.registered")) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda o: replace(o, seed=43),
        lambda o: replace(o, parameters={"rate": 0.2}),
        lambda o: replace(o, variant="challenger"),
        lambda o: spoil(o, "# another comment"),
    ],
    ids=["manifest", "parameters", "variant", "code"],
)
def test_a_cleared_task_that_claims_something_else_is_on_record_again(world, order, change) -> None:
    run(world, order)
    run(world, change(order))
    assert len(world.kinds("model.trained")) == 2
    assert not world.kinds("append.refused")


@pytest.mark.parametrize("killed", ["registry", "model.trained", "model.registered", "seal"])
def test_a_try_killed_at_any_point_is_completed_by_the_next(
    world, order, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, real = world.gov.ledger, world.gov.ledger.append

    def die(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    def append_until(draft, **kwargs):
        return die() if draft.kind == killed else real(draft, **kwargs)

    with monkeypatch.context() as patched:
        if killed == "registry":
            patched.setattr(world.registry, "register", die)
        patched.setattr(ledger, "seal" if killed == "seal" else "append",
                        die if killed == "seal" else append_until)  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            run(world, order)
    trained = run(world, order)
    made, registered = world.kinds("model.trained", "model.registered")
    assert made.body["evidence_sha256"] == str(trained.evidence)
    assert world.gov.evidence.get(trained.evidence)
    assert registered.body["version"] == "1"
    assert not world.kinds("append.refused")


MODEL = 'import shutil; model = out / "model"'


SIGNATURE = '(out / "signature.json").write_text'
METRICS = '(out / "metrics.json").write_text'


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("raise SystemExit(3)", TrainingError, "exited with status 3"),
        ('(out / "metrics.json").unlink()', TrainingError, "wrote no file 'metrics.json'"),
        ('(out / "metrics.json").write_text("{}")', TrainingError, "at least one metric"),
        ('(out / "metrics.json").write_text("[1]")', TrainingError, "at least one metric"),
        (
            '(out / "metrics.json").write_text("{")',
            TrainingError,
            "'metrics.json' that is",
        ),
        ('(out / "metrics.json").write_bytes(b"\\xff")', TrainingError, "is not JSON"),
        (METRICS + "('{\"a\": NaN}')", TrainingError, "a is nan"),
        (METRICS + "('{\"a\": -Infinity}')", TrainingError, "a is -inf"),
        (METRICS + "('{\"a\": 1e999}')", TrainingError, "a is inf"),
        (
            METRICS + '(\'{"a": "1"}\')',
            TrainingError,
            "a is '1', no number",
        ),
        (METRICS + "('{\"a\": true}')", TrainingError, "a is True"),
        (METRICS + "('{\"a\": null}')", TrainingError, "a is None"),
        (METRICS + '(\'{"a": {"b": 1}}\')', TrainingError, "no number"),
        (
            METRICS + '(\'{"a": 1, "a": 2}\')',
            TrainingError,
            "stands twice",
        ),
        (
            METRICS + "('{\"a b\": 1}')",
            TrainingError,
            "no name for a metric",
        ),
        ('(out / "metrics.json").write_text("1" + "0" * 2000000)', TrainingError, "more than"),
        ('(out / "metrics.json").write_text("[" * 100000)', TrainingError, "is not JSON"),
        ('(out / "signature.json").unlink()', TrainingError, "wrote no file 'signature.json'"),
        ('(out / "signature.json").write_text("[]")', TrainingError, "'inputs' is not a list"),
        (
            SIGNATURE + '(\'{"inputs": [{"name": "a", "type": "x"}]}\')',
            TrainingError,
            "types being boolean",
        ),
        (
            SIGNATURE + '(\'{"inputs": [{"name": "a", "type": "long"}]}\')',
            TrainingError,
            "does not name the output",
        ),
        (f"{MODEL}; shutil.rmtree(model)", TrainingError, "no directory 'model'"),
        (
            f'{MODEL}; shutil.rmtree(model); model.symlink_to("/etc")',
            TrainingError,
            "no directory 'model'",
        ),
        (f"{MODEL}; shutil.rmtree(model); model.mkdir()", TrainingError, "empty directory 'model'"),
        (f'{MODEL}; (model / "x").symlink_to("/etc/passwd")', ArtefactError, "symbolic link"),
        (f'{MODEL}; (model / "m.pkl").touch()', ArtefactError, "called a pickle"),
        (
            f'{MODEL}; import pickle; (model / "m.bin").write_bytes(pickle.dumps(1))',
            ArtefactError,
            "starts like a pickle",
        ),
        (
            'open(job["inputs"]["development"], "a").write("x")',
            DataError,
            "changed while the script learnt from it",
        ),
        ('open(__file__, "a").write("#")', TrainingError, "changed while it ran"),
    ],
)
def test_a_broken_contract_is_one_clear_error_and_leaves_nothing(
    world, order, line: str, error: type[Exception], says: str
) -> None:
    calls = Calls(world)
    with pytest.raises(error, match=says) as caught:
        run(world, spoil(order, line))
    assert not caught.value.retryable
    assert calls.names == []


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"model": "unknown"}, ConfigurationError, "not in the inventory"),
        ({"script": Path("/none.py")}, TrainingError, "none.py cannot be read"),
        ({"inputs": {"development": "/none.csv"}}, DataError, "'development' cannot be read"),
        ({"inputs": {"development": "/tmp"}}, DataError, "'development' cannot be read"),
        ({"inputs": {"development": "s3://b/k"}}, ConfigurationError, "not a local file"),
        ({"inputs": {"De-v": "/x"}}, ConfigurationError, "environment variable"),
        ({"parameters": {"a": float("nan")}}, ConfigurationError, "JSON values"),
        ({"parameters": {"a": {1, 2}}}, ConfigurationError, "JSON values"),
        ({"seed": -1}, ConfigurationError, "Seed -1"),
        ({"seed": 2**32}, ConfigurationError, "whole number"),
        ({"variant": "winner"}, ConfigurationError, "candidate, challenger"),
        ({"timeout_s": 0}, ConfigurationError, "timeout_s is 0"),
        ({"memory_mb": -5}, ConfigurationError, "memory_mb is -5"),
    ],
)
def test_an_impossible_order_is_refused_before_anything_runs(
    world, order, change, error: type[Exception], says: str
) -> None:
    class Never:
        name = "local"

        def run(self, *_args: object) -> None:
            raise AssertionError("it ran")

    with pytest.raises(error, match=says):
        train(replace(order, **change), world.gov, Never(), world.registry, print)


def test_inputs_may_be_given_as_file_uris(world, order) -> None:
    uri = Path(order.inputs["development"]).as_uri()
    assert run(world, replace(order, inputs={"development": uri})).inputs[0].uri == uri


@pytest.mark.parametrize(
    ("part", "name", "error"),
    [
        ("evidence", "put", EvidenceError("full")),
        ("registry", "register", RegistryUnavailableError("gone")),
        ("ledger", "append", LedgerUnavailableError("locked")),
    ],
)
def test_nothing_counts_if_a_store_fails(world, order, part, name, error, monkeypatch) -> None:
    thing = {
        "evidence": world.gov.evidence,
        "registry": world.registry,
        "ledger": world.gov.ledger,
    }[part]

    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(thing, name, fail)
        with pytest.raises(type(error)):
            run(world, order)
    assert not world.kinds("model.trained", "model.registered")
