"""Trains the champion: a logistic scorecard on binned features (weight of evidence).

A training script as `docs/reference/training-contract.md` describes: started as ``python
train_scorecard.py``, told what to do by ``MLGOV_JOB_FILE``. Writes ``model/scorecard.json`` alone:
text, the same bytes for the same data.

Source:
    N. Siddiqi, "Credit Risk Scorecards" (2006), chapters 6 and 7: binning, weight of evidence,
    points.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import statsmodels.api as sm
from features import TARGET, area_under_curve, features_of, read_clients, signature
from scoring import scorecard

if TYPE_CHECKING:
    from pandas import DataFrame, Series

DECIMALS = 10
MAX_BINS = 5
LEAST_SHARE = 0.05  # of rows in a bin
POINTS_AT_EVEN_ODDS, POINTS_TO_DOUBLE = 600, 20
INPUTS = (
    "limit", "pay_0", "pay_3", "delay_months", "use_mean",
    "paid_last", "paid_mean", "paid_min", "paid_share",
)  # fmt: skip


def rounded(value: float) -> float:
    """Return a number at a fixed number of decimals, without a negative zero."""
    return round(float(value), DECIMALS) + 0.0


def find_edges(values: Series, max_bins: int) -> list[float]:
    """Return inner edges of bins of at least 5 % of the rows each; an edge belongs to its left."""
    ordered = np.sort(values.to_numpy())
    edges: list[float] = []
    for share in np.arange(1, max_bins) / max_bins:
        edge = float(ordered[int(share * (len(ordered) - 1))])
        below = (
            (values <= edge).mean() - (values <= edges[-1]).mean()
            if edges
            else (values <= edge).mean()
        )
        if below >= LEAST_SHARE and (values > edge).mean() >= LEAST_SHARE:
            edges.append(edge)
    return edges


def weigh(codes: np.ndarray, labels: np.ndarray, n_bins: int) -> list[float]:
    """Return ln(share of goods / share of bads) of each bin, half a row added to each."""
    bad = np.bincount(codes, weights=labels, minlength=n_bins) + 0.5
    good = np.bincount(codes, weights=1 - labels, minlength=n_bins) + 0.5
    return [rounded(weight) for weight in np.log((good / good.sum()) / (bad / bad.sum()))]


def fit(clients: DataFrame, max_bins: int) -> tuple[dict[str, Any], Any]:
    """Return the scorecard and statsmodels' fit behind it."""
    features, labels = features_of(clients), clients[TARGET].to_numpy(dtype="float64")
    variables, columns = [], []
    for name in INPUTS:
        edges = [rounded(edge) for edge in find_edges(features[name], max_bins)]
        codes = np.searchsorted(edges, features[name].round(DECIMALS), side="left")
        weights = weigh(codes, labels, len(edges) + 1)
        variables.append({"name": name, "edges": edges, "woe": weights})
        columns.append(np.asarray(weights)[codes])
    fitted = sm.Logit(labels, sm.add_constant(np.column_stack(columns))).fit(
        disp=0, maxiter=100, tol=1e-12
    )
    for variable, coefficient in zip(variables, fitted.params[1:], strict=True):
        variable["coefficient"] = rounded(coefficient)
    factor = POINTS_TO_DOUBLE / np.log(2)
    card = {
        "format": "retail_pd.scorecard/1",
        "output": "probability of default",
        "intercept": rounded(fitted.params[0]),
        "variables": variables,
        "points": {"at_even_odds": POINTS_AT_EVEN_ODDS, "factor": rounded(factor)},
    }
    return card, fitted


def main() -> None:
    """Train as the job file says."""
    job = json.loads(Path(os.environ["MLGOV_JOB_FILE"]).read_text(encoding="utf-8"))
    output = Path(job["output_dir"])
    clients = read_clients(job["inputs"]["development"])
    print(
        f"development sample: {len(clients)} clients, {clients[TARGET].mean():.4f} in default",
        flush=True,
    )
    card, fitted = fit(clients, int(job["parameters"].get("max_bins", MAX_BINS)))
    (output / "model").mkdir()
    text = json.dumps(card, indent=1, sort_keys=True, allow_nan=False) + "\n"
    (output / "model" / "scorecard.json").write_text(text, encoding="utf-8")
    probabilities = scorecard(output / "model", clients)
    metrics = {
        "development_auc": rounded(area_under_curve(clients[TARGET].to_numpy(), probabilities)),
        "log_likelihood": rounded(fitted.llf),
        "pseudo_r_squared": rounded(fitted.prsquared),
        "iterations": int(fitted.mle_retvals["iterations"]),
    }
    (output / "metrics.json").write_text(json.dumps(metrics, sort_keys=True), encoding="utf-8")
    told = json.dumps(signature("default_probability"))
    (output / "signature.json").write_text(told, encoding="utf-8")
    for variable in card["variables"]:
        name, bins = variable["name"], len(variable["woe"])
        print(f"{name:14} {bins} bins, coefficient {variable['coefficient']:+.4f}")
    print(f"AUC on the development sample {metrics['development_auc']:.4f}")


if __name__ == "__main__":
    main()
