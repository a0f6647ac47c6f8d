"""A package as a container gets it to score files: a small model, a script and what it imports."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.container import entry_archive
from airflow_mlgov.service.container_scoring import ScoringSpec, SpecData, scoring_document

GOOD = """
import csv, json, os
from pathlib import Path
from beside import RATE
job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
model = json.loads(Path(os.environ["MLGOV_INPUT_MODEL"], "deep", "m.json").read_text())
data = Path(os.environ["MLGOV_INPUT_DATA"])
print("scoring", data.name)
with open(data, newline="") as rows, open(
    Path(os.environ["MLGOV_OUTPUT_DIR"]) / "scores.csv", "w", newline=""
) as out:
    scores = csv.writer(out)
    scores.writerow(["row", "score"])
    for number, row in enumerate(csv.DictReader(rows)):
        score = int(row["x"]) * model["weight"] * RATE + job["parameters"]["base"]
        scores.writerow([number, score])
"""
DATA = {"loans.csv": b"x\n1\n2\n", "cards.csv": b"x\n3\n"}


@dataclass(frozen=True)
class Package:
    """A package in a folder; `data` are the bytes of what is to be scored, by name."""

    folder: Path
    spec: ScoringSpec
    data: Mapping[str, bytes]

    @property
    def digest(self) -> Digest:
        return Digest.of(scoring_document(self.spec))

    @property
    def files(self) -> dict[str, Path]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in found}

    def with_spec(self, **changes: Any) -> Package:
        """Return the package with another specification in it."""
        changed = replace(self, spec=replace(self.spec, **changes))
        (self.folder / "spec.json").write_bytes(scoring_document(changed.spec))
        return changed


def make_package(
    folder: Path, source: str = GOOD, data: Mapping[str, bytes] | None = None
) -> Package:
    """Write a package to a folder that is made."""
    data = DATA if data is None else data
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "model" / "deep" / "m.json").write_text(json.dumps({"weight": 10}))
    files = {"score.py": textwrap.dedent(source), "beside.py": "RATE = 0.5\n"}
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "mlgov-entry.pyz").write_bytes(entry_archive())
    spec = ScoringSpec(
        "score.py",
        {name: Digest.of(text.encode()) for name, text in files.items()},
        hash_directory(folder / "model").digest,
        {name: SpecData(Digest.of(each), len(each)) for name, each in data.items()},
        {"base": 0.25},
    )
    return Package(folder, spec, data).with_spec()
