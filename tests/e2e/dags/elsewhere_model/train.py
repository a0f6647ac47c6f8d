"""A model that is its data and parameters."""

from __future__ import annotations

import json
import os
from pathlib import Path

job = json.loads(Path(os.environ["MLGOV_JOB_FILE"]).read_text())
out = Path(job["output_dir"])
(out / "model").mkdir()
rows = Path(job["inputs"]["development"]).read_text().splitlines()
(out / "model" / "model.json").write_text(json.dumps([job["parameters"], rows]))
(out / "metrics.json").write_text(json.dumps({"rows": len(rows)}))
(out / "signature.json").write_text(
    json.dumps({"inputs": [{"name": "A", "type": "long"}], "output": "score"})
)
print("said in the container")
