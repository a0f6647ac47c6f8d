from __future__ import annotations

import csv
import json
import os
from pathlib import Path

card = json.loads((Path(os.environ["MLGOV_INPUT_MODEL"]) / "scorecard.json").read_text())
with Path(os.environ["MLGOV_INPUT_DATA"]).open() as data:
    rows = list(csv.reader(data))[1:]
with (Path(os.environ["MLGOV_OUTPUT_DIR"]) / "scores.csv").open("w") as scores:
    scores.write("row,score\n")
    scores.writelines(f"{number},{card['weight']}\n" for number, _ in enumerate(rows))
print(f"scored {len(rows)} rows with weight {card['weight']}")
