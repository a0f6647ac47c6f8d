"""The task, on a ledger of the service's tests, from one local platform to another."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mlgov import RehearseExitOperator
from airflow_mlgov.errors import RegistryUnavailableError
from airflow_mlgov.operators import rehearsing
from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.train import train
from airflow_mlgov.service.training_order import TrainingOrder
from tests.unit.service import conftest

world = conftest.world
SCRIPT = """
    import json, os, pathlib
    out = pathlib.Path(os.environ["MLGOV_OUTPUT_DIR"])
    (out / "model").mkdir()
    (out / "model" / "card.json").write_text("[0.5]")
    (out / "metrics.json").write_text('{"auc": 0.77}')
    signature = {"inputs": [{"name": "X", "type": "long"}], "output": "pd"}
    (out / "signature.json").write_text(json.dumps(signature))
    print("trained")
"""
INSTANCE = SimpleNamespace(
    dag_id="exit_rehearsal", run_id="r", task_id="rehearse", map_index=-1, try_number=1
)


def alike(model_dir: Path, frame):
    assert json.loads((model_dir / "card.json").read_text()) == [0.5]
    assert list(frame.columns) == ["X"], "the outcome is kept from it"
    return [0.1, 0.2, 0.3]


class Apart:
    """Scores each model that it is shown otherwise."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, model_dir: Path, frame):
        self.calls += 1
        return [0.1, 0.2, 0.3 if self.calls == 1 else 0.9]


@pytest.fixture
def operator(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes the task, once a version was trained on ``old``."""
    (tmp_path / "train.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "dev.csv").write_text("X\n1\n")
    (tmp_path / "sample.csv").write_text("X,Y\n1,0\n2,1\n3,1\n")
    order = TrainingOrder(
        "retail_pd", tmp_path / "train.py", {"development": str(tmp_path / "dev.csv")}
    )
    train(order, world.gov, LocalPlatform("old"), world.registry, print)
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: world.gov)
    monkeypatch.setattr("airflow_mlgov.wiring.open_registry", lambda _: world.registry)
    terms = {"new": PlatformTerms("new", "local")}
    monkeypatch.setattr("airflow_mlgov.wiring.platform_terms", terms.__getitem__)

    def make(scorer=alike) -> RehearseExitOperator:
        return RehearseExitOperator(
            task_id="rehearse",
            model="retail_pd",
            from_platform="old",
            to_platform="new",
            script=str(tmp_path / "train.py"),
            sample=str(tmp_path / "sample.csv"),
            target="Y",
            scorer=scorer,
        )

    return make


def test_it_says_what_was_made_and_the_task_is_on_record(world, operator) -> None:
    said = operator().execute({"ti": INSTANCE})
    (entry,) = world.kinds("exit.rehearsed")
    assert entry.source == Source("exit_rehearsal", "r", "rehearse", -1, 1)
    assert said["version"] == said["rehearsed_version"] == str(entry.version)
    assert (said["same_bytes"], said["evidence"]) == (True, entry.body["evidence_sha256"])
    assert [result["passed"] for result in said["results"]] == [True] * 4
    json.dumps(said)


def test_scores_too_far_apart_fail_the_task_once_that_is_on_record(world, operator) -> None:
    with pytest.raises(AirflowFailException, match="does not score alike on new"):
        operator(Apart()).execute({"ti": INSTANCE})
    assert world.kinds("exit.rehearsed")[0].body["passed"] is False


def test_what_a_retry_may_help_is_retried_and_the_rest_is_not(
    world, operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: object) -> None:
        raise RegistryUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(world.registry, "find", away)
        with pytest.raises(AirflowException) as caught:
            operator().execute({"ti": INSTANCE})
    assert not isinstance(caught.value, AirflowFailException)
    pack = world.gov.packs["retail_credit"]
    world.gov.packs["retail_credit"] = replace(pack, exit=None)
    with pytest.raises(AirflowFailException, match="no section 'exit'"):
        operator().execute({"ti": INSTANCE})


def test_a_task_that_is_killed_ends_the_script(operator, monkeypatch: pytest.MonkeyPatch) -> None:
    task, ended = operator(), []
    task.on_kill()  # nothing runs yet
    monkeypatch.setattr(LocalPlatform, "cancel", lambda _self: ended.append("script"))

    def killed(*args: object) -> None:
        task.on_kill()
        raise RegistryUnavailableError("enough")

    monkeypatch.setattr(rehearsing, "fetched", killed)
    with pytest.raises(AirflowException):
        task.execute({"ti": INSTANCE})
    assert ended == ["script"]
