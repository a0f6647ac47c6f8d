from __future__ import annotations

import csv
import hashlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.contract import read_outputs
from airflow_mlgov.service.training_platform import ScriptJob

DAGS = Path(__file__).parents[2] / "dags"
CODE = DAGS / "retail_pd_model"
DATA = DAGS / "data" / "taiwan_credit.csv"
SIZES = (21036, 8964)  # development, validation


@pytest.fixture(scope="module", autouse=True)
def _dag_folder():
    """Airflow puts the DAG folder on the path; a training script finds its own folder there."""
    before = list(sys.path)
    sys.path[:0] = [str(DAGS), str(CODE)]
    yield
    sys.path[:] = before
    for name in [n for n in sys.modules if n.startswith("retail_pd_model")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory, _dag_folder: None) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("samples")
    development, validation = folder / "development.csv", folder / "validation.csv"
    importlib.import_module("retail_pd_model.sampling").split_file(DATA, development, validation)
    return development, validation


@pytest.fixture(scope="module")
def trained(
    samples: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    def run(script: str, seed: int = 42, **parameters) -> Path:
        output = tmp_path_factory.mktemp(script)
        inputs = {"development": str(samples[0])}
        job = ScriptJob(CODE / f"{script}.py", inputs, parameters, seed, output, 300.0, None, {})
        LocalPlatform().run(job, print)
        return output

    return run


@pytest.fixture(scope="module")
def champion(trained) -> Path:
    return trained("train_scorecard")


@pytest.fixture(scope="module")
def challenger(trained) -> Path:
    return trained("train_boosting")


def _auc(clients: pd.DataFrame, probabilities: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(clients["DEFAULT"], probabilities))


def test_the_data_are_the_ones_that_the_readme_describes() -> None:
    readme = (DAGS / "data" / "README.md").read_text()
    assert hashlib.sha256(DATA.read_bytes()).hexdigest() in readme
    assert "CC BY 4.0" in readme
    assert "I-Cheng Yeh" in readme
    with DATA.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), len(rows[0])) == (30000, 25)


def test_the_split_is_the_same_for_ever_and_loses_nobody(samples, tmp_path: Path) -> None:
    development, validation = (pd.read_csv(path) for path in samples)
    assert (len(development), len(validation)) == SIZES
    assert set(development["ID"]).isdisjoint(validation["ID"])
    assert len(development) + len(validation) == 30000
    assert next(iter(development.columns)) == "ID", "the byte-order mark is gone"
    from retail_pd_model.sampling import split_file

    split_file(DATA, tmp_path / "d.csv", tmp_path / "v.csv")
    assert (tmp_path / "d.csv").read_bytes() == samples[0].read_bytes()


def test_the_scorecard_is_the_same_bytes_each_time(trained, champion: Path) -> None:
    again = trained("train_scorecard", seed=7)
    assert hash_directory(again / "model").digest == hash_directory(champion / "model").digest
    assert [f.path for f in hash_directory(champion / "model").files] == ["scorecard.json"]
    other = trained("train_scorecard", max_bins=4)
    assert hash_directory(other / "model").digest != hash_directory(champion / "model").digest


def test_the_boosted_trees_are_the_same_bytes_for_a_seed(trained, challenger: Path) -> None:
    again = trained("train_boosting")
    assert hash_directory(again / "model").digest == hash_directory(challenger / "model").digest
    assert [f.path for f in hash_directory(challenger / "model").files] == ["booster.txt"]
    other = trained("train_boosting", seed=43)
    assert hash_directory(other / "model").digest != hash_directory(challenger / "model").digest


def test_both_models_rank_clients_they_have_not_seen(samples, champion, challenger) -> None:
    from retail_pd_model.scoring import boosting, scorecard

    clients = pd.read_csv(samples[1])
    unlabelled = clients.drop(columns=["DEFAULT"])
    first = _auc(clients, scorecard(champion / "model", unlabelled))
    second = _auc(clients, boosting(challenger / "model", unlabelled))
    assert 0.75 < first < 0.79
    assert 0.76 < second < 0.80
    assert abs(scorecard(champion / "model", clients).mean() - clients["DEFAULT"].mean()) < 0.02


@pytest.mark.parametrize("model", ["champion", "challenger"])
def test_protected_attributes_do_not_matter(samples, model: str, request) -> None:
    from retail_pd_model import scoring

    output = request.getfixturevalue(model)
    score = scoring.scorecard if model == "champion" else scoring.boosting
    clients = pd.read_csv(samples[1]).head(500)
    changed = clients.assign(SEX=1, AGE=99, MARRIAGE=3, EDUCATION=6, ID=0)
    assert (score(output / "model", clients) == score(output / "model", changed)).all()
    named = {column["name"] for column in read_outputs(output).signature["inputs"]}
    assert named.isdisjoint({"SEX", "AGE", "MARRIAGE", "EDUCATION"})


def test_coefficients_agree_with_a_refit_of_statsmodels(samples, champion: Path) -> None:
    """Binning, weights of evidence and fit done over, from the card's edges alone."""
    import statsmodels.api as sm
    from retail_pd_model.features import features_of

    card = json.loads((champion / "model" / "scorecard.json").read_text())
    clients = pd.read_csv(samples[0])
    features, bad = features_of(clients), clients["DEFAULT"]
    columns = {}
    for variable in card["variables"]:
        values = features[variable["name"]].round(10)
        bins = pd.cut(values, [-np.inf, *variable["edges"], np.inf], labels=False)
        counts = pd.crosstab(bins, bad) + 0.5
        weights = np.log((counts[0] / counts[0].sum()) / (counts[1] / counts[1].sum()))
        assert weights.to_numpy() == pytest.approx(variable["woe"], abs=1e-9)
        columns[variable["name"]] = bins.map(weights)
    refit = sm.GLM(bad, sm.add_constant(pd.DataFrame(columns)), sm.families.Binomial()).fit(
        tol=1e-12
    )
    ours = [card["intercept"], *(variable["coefficient"] for variable in card["variables"])]
    assert refit.params.to_numpy() == pytest.approx(ours, abs=1e-6)


def test_every_coefficient_has_the_sign_that_its_meaning_demands(champion: Path) -> None:
    card = json.loads((champion / "model" / "scorecard.json").read_text())
    assert all(variable["coefficient"] < 0 for variable in card["variables"])


def test_scoring_the_scorecard_needs_no_modelling_library(samples, champion, tmp_path) -> None:
    scores_file = tmp_path / "scores.csv"
    source = f"""
import sys
sys.path.insert(0, {str(DAGS)!r})
for name in ("statsmodels", "lightgbm", "sklearn", "scipy", "airflow"):
    sys.modules[name] = None
from retail_pd_model.features import read_clients
from retail_pd_model.scoring import write_scores
clients = read_clients({str(samples[1])!r})
print(write_scores({str(champion / "model")!r}, clients, {str(scores_file)!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", source], check=True, capture_output=True, text=True
    )
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert int(done.stdout) == len(scores) == SIZES[1]
    assert list(scores.columns) == ["ID", "default_probability", "points"]
    assert scores["default_probability"].between(0, 1).all()
    assert scores["points"].corr(scores["default_probability"], method="spearman") < -0.99


def test_missing_columns_are_named(champion: Path) -> None:
    from retail_pd_model.scoring import scorecard

    with pytest.raises(ValueError, match="lack the columns LIMIT_BAL"):
        scorecard(champion / "model", pd.DataFrame({"ID": [1]}))
