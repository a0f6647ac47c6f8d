"""What the example models look at: columns of taiwan_credit, and features computed from them.

SEX, AGE and MARRIAGE are never inputs; EDUCATION is left out too, as it stands in for them.
Needs pandas and numpy only, and nothing of Airflow.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

TARGET = "DEFAULT"
IDENTIFIER = "ID"
NEVER_INPUTS = ("SEX", "AGE", "MARRIAGE", "EDUCATION")

STATUS = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6")
BILLS = tuple(f"BILL_AMT{month}" for month in range(1, 7))
PAYMENTS = tuple(f"PAY_AMT{month}" for month in range(1, 7))
COLUMNS = ("LIMIT_BAL", *STATUS, *BILLS, *PAYMENTS)


def read_clients(source: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a taiwan_credit CSV, with or without its byte-order mark."""
    return pd.read_csv(Path(source), encoding="utf-8-sig")


def features_of(clients: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers that models learn from, one row a client, columns in a fixed order."""
    missing = [name for name in COLUMNS if name not in clients.columns]
    if missing:
        raise ValueError(f"The data lack the columns {', '.join(missing)}.")
    raw = clients.loc[:, list(COLUMNS)].astype("float64")
    limit = raw["LIMIT_BAL"].clip(lower=1.0)
    status = raw[list(STATUS)]
    bills, payments = raw[list(BILLS)], raw[list(PAYMENTS)]
    return pd.DataFrame(
        {
            "limit": raw["LIMIT_BAL"],
            **{name.lower(): raw[name] for name in STATUS},
            "delay_max": status.max(axis=1),
            "delay_months": (status > 0).sum(axis=1).astype("float64"),
            "use_now": raw["BILL_AMT1"] / limit,
            "use_mean": bills.mean(axis=1) / limit,
            "use_trend": (raw["BILL_AMT1"] - raw["BILL_AMT6"]) / limit,
            "paid_last": raw["PAY_AMT1"],
            "paid_mean": payments.mean(axis=1),
            "paid_min": payments.min(axis=1),
            "paid_share": payments.sum(axis=1) / np.maximum(bills.clip(lower=0).sum(axis=1), 1.0),
        }
    )


def signature(output: str) -> dict[str, object]:
    """Return the signature of a model that scores raw client rows."""
    return {"inputs": [{"name": name, "type": "long"} for name in COLUMNS], "output": output}


def area_under_curve(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve, ties counted half."""
    order = pd.Series(scores).rank(method="average").to_numpy()
    bad = np.asarray(labels) == 1
    n_bad, n_good = int(bad.sum()), int((~bad).sum())
    return float((order[bad].sum() - n_bad * (n_bad + 1) / 2) / (n_bad * n_good))
