"""Scores a file of clients with the scorecard, under the scoring contract.

What a script is given and must write: docs/reference/scoring-contract.md.
"""

from __future__ import annotations

import os
from pathlib import Path

from features import read_clients
from scoring import write_scores

clients = read_clients(os.environ["MLGOV_INPUT_DATA"])
scores = Path(os.environ["MLGOV_OUTPUT_DIR"]) / "scores.csv"
count = write_scores(Path(os.environ["MLGOV_INPUT_MODEL"]), clients, scores)
print(f"Scored {count} clients.")
