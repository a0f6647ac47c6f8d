"""Hashing a 1 GB model directory, against raw SHA-256 over the same files in the same process.

Both see every file in turn, one right after the other and taking turns in going first, so that a
busy machine slows both alike. Prints one line of JSON; the goal is a ratio of at most 1.2.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from airflow_mlgov.service.artefacts import hash_directory

GOAL = 1.2
TOTAL_BYTES = 1_000_000_000
FOLDERS = 20
ROUNDS = 5
BLOCK = 1024 * 1024


def make_models(root: Path) -> list[Path]:
    """Write twenty model folders: large weight files and many small ones, 1 GB in all."""
    noise = os.urandom(BLOCK).replace(b"\x80", b"\x81")
    models = []
    for index in range(FOLDERS):
        model = root / f"model-{index}"
        (model / "trees").mkdir(parents=True)
        with (model / "weights.bin").open("wb") as file:
            left = TOTAL_BYTES // FOLDERS - 50 * 2000
            while left > 0:
                left -= file.write(noise[: min(left, BLOCK)])
        for tree in range(50):
            (model / "trees" / f"{tree}.txt").write_bytes(b"tree\n" * 400)
        models.append(model)
    return models


def raw_sha256(model: Path) -> None:
    """Do what cannot be avoided: read every byte and hash it."""
    for path in sorted(model.rglob("*")):
        if path.is_file():
            sha256 = hashlib.sha256()
            with path.open("rb", buffering=0) as file:
                while block := file.read(BLOCK):
                    sha256.update(block)
            sha256.hexdigest()


def seconds(work, model: Path) -> float:
    """Return the processor seconds of one call; what waits for neighbours is not ours."""
    started = time.process_time()
    work(model)
    return time.process_time() - started


def one_round(models: list[Path], *, ours_first: bool) -> float:
    """Return the ratio of one pass over all folders, the two taking turns folder by folder."""
    ours = raw = 0.0
    for index, model in enumerate(models):
        order = (hash_directory, raw_sha256)
        for work in order if (index % 2 == 0) == ours_first else order[::-1]:
            took = seconds(work, model)
            ours, raw = (ours + took, raw) if work is hash_directory else (ours, raw + took)
    return ours / raw


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="mlgov-bench-") as folder:
        models = make_models(Path(folder))
        one_round(models[:2], ours_first=True)  # warm
        ratios = [one_round(models, ours_first=bool(turn % 2)) for turn in range(ROUNDS)]
    ratio = statistics.median(ratios)
    result = {
        "name": "hash_1gb_directory_vs_sha256",
        "ratio": round(ratio, 4),
        "goal": f"<= {GOAL}",
        "met": ratio <= GOAL,
        "rounds": [round(value, 4) for value in ratios],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
