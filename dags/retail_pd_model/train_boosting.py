"""Trains the challenger: gradient boosted trees (LightGBM), saved in LightGBM's own text format.

A training script as `docs/reference/training-contract.md` describes. One thread and deterministic
histograms: the same data, parameters, seed and version of LightGBM give the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import lightgbm
from features import TARGET, area_under_curve, features_of, read_clients, signature
from scoring import boosting

ROUNDS = 150
PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


def main() -> None:
    """Train as the job file says."""
    job = json.loads(Path(os.environ["MLGOV_JOB_FILE"]).read_text(encoding="utf-8"))
    output = Path(job["output_dir"])
    clients = read_clients(job["inputs"]["development"])
    labels = clients[TARGET].to_numpy()
    print(f"development sample: {len(clients)} clients, {labels.mean():.4f} in default", flush=True)
    rounds = int(job["parameters"].get("rounds", ROUNDS))
    booster = lightgbm.train(
        {**PARAMETERS, "seed": job["seed"] % 2**31},
        lightgbm.Dataset(features_of(clients), labels),
        num_boost_round=rounds,
        callbacks=[_say_every(50)],
    )
    (output / "model").mkdir()
    booster.save_model(output / "model" / "booster.txt")
    auc = area_under_curve(labels, boosting(output / "model", clients))
    metrics = {"development_auc": round(auc, 10), "rounds": rounds}
    (output / "metrics.json").write_text(json.dumps(metrics, sort_keys=True), encoding="utf-8")
    (output / "signature.json").write_text(
        json.dumps(signature("default_probability")), encoding="utf-8"
    )
    print(f"AUC on the development sample {auc:.4f}")


def _say_every(rounds: int) -> Callable[[lightgbm.callback.CallbackEnv], None]:
    def say(state: lightgbm.callback.CallbackEnv) -> None:
        if (state.iteration + 1) % rounds == 0:
            print(f"{state.iteration + 1} of {state.end_iteration} rounds", flush=True)

    return say


if __name__ == "__main__":
    main()
