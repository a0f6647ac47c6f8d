"""Learns the mean of a column."""

from __future__ import annotations

import json
import os
from pathlib import Path

rows = Path(os.environ["MLGOV_INPUT_NUMBERS"]).read_text().split()[1:]
mean = sum(map(float, rows)) / len(rows)
print(f"The mean of {len(rows)} numbers.")
out = Path(os.environ["MLGOV_OUTPUT_DIR"])
(out / "model").mkdir(exist_ok=True)
(out / "model" / "mean.json").write_text(json.dumps({"mean": mean}))
(out / "metrics.json").write_text(json.dumps({"mean": mean}))
signature = {"inputs": [{"name": "number", "type": "double"}], "output": "mean"}
(out / "signature.json").write_text(json.dumps(signature))
