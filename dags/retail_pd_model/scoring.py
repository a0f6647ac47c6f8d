"""Scores clients with a verified model folder; nothing of it is executed or unpickled.

The scorecard needs numpy and pandas only; the boosted trees need LightGBM.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

try:
    from retail_pd_model.features import IDENTIFIER, features_of
except ImportError:  # beside the training scripts, which run without the DAG folder on their path
    from features import IDENTIFIER, features_of

_DECIMALS = 10  # as in training: a value on the edge of a bin falls to the same side


def scorecard(model_dir: Path, clients: pd.DataFrame) -> np.ndarray:
    """Return the probability of default that ``scorecard.json`` gives to each client."""
    card = json.loads((Path(model_dir) / "scorecard.json").read_text(encoding="utf-8"))
    features = features_of(clients)
    log_odds = np.full(len(features), card["intercept"], dtype="float64")
    for variable in card["variables"]:
        values = features[variable["name"]].round(_DECIMALS)
        bins = np.searchsorted(variable["edges"], values, side="left")
        log_odds += variable["coefficient"] * np.asarray(variable["woe"])[bins]
    return 1.0 / (1.0 + np.exp(-log_odds))


def points(model_dir: Path, clients: pd.DataFrame) -> np.ndarray:
    """Return scorecard points, more for a better client: 600 at even odds, 20 for each doubling."""
    scale = json.loads((Path(model_dir) / "scorecard.json").read_text(encoding="utf-8"))["points"]
    bad = scorecard(model_dir, clients)
    return np.rint(scale["at_even_odds"] + scale["factor"] * np.log((1 - bad) / bad))


def boosting(model_dir: Path, clients: pd.DataFrame) -> np.ndarray:
    """Return the probability of default that ``booster.txt`` gives to each client."""
    import lightgbm

    booster = lightgbm.Booster(model_file=Path(model_dir) / "booster.txt")
    return np.asarray(booster.predict(features_of(clients), num_threads=1))


def write_scores(model_dir: Path, clients: pd.DataFrame, scores: str | os.PathLike[str]) -> int:
    """Score clients with the scorecard into a CSV file; return how many were scored.

    The target, if it is there, is not looked at.
    """
    result = pd.DataFrame(
        {
            IDENTIFIER: clients[IDENTIFIER],
            "default_probability": scorecard(model_dir, clients).round(6),
            "points": points(model_dir, clients).astype("int64"),
        }
    )
    target = Path(scores)
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = target.with_name(f".{target.name}.part")
    result.to_csv(whole, index=False, lineterminator="\n")
    whole.replace(target)
    return len(result)
