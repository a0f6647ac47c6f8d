"""`make bench`: run every ``bench_*.py`` beside this file and write ``.bench/results.json``.

A benchmark is a program that prints one JSON object with at least ``name``, ``ratio``, ``goal`` and
``met``; anything else it has to say goes to stderr.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / ".bench" / "results.json"


def main() -> int:
    """Run them one after the other; 0 if each ran and met its goal."""
    results = []
    for file in sorted(HERE.glob("bench_*.py")):
        print(f"{file.stem} ...", file=sys.stderr, flush=True)
        results.append(_run(file))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    _print_table(results)
    print(f"Written to {RESULTS.relative_to(ROOT)}")
    return 0 if all(result["met"] for result in results) else 1


def _run(file: Path) -> dict[str, Any]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(file)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    seconds = round(time.monotonic() - began, 1)
    failed = {"name": file.stem, "ratio": None, "goal": "", "met": False}
    if done.returncode:
        return failed | {"error": f"exit code {done.returncode}", "seconds": seconds}
    try:
        result = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return failed | {"error": "printed no JSON object", "seconds": seconds}
    return {"name": file.stem, "goal": "", "met": True} | result | {"seconds": seconds}


def _print_table(results: list[dict[str, Any]]) -> None:
    rows = [("benchmark", "ratio", "goal", "met")]
    for result in results:
        ratio = result.get("ratio")
        shown = f"{ratio:.3g}" if isinstance(ratio, int | float) else result.get("error", "")
        rows.append((result["name"], shown, str(result["goal"]), "yes" if result["met"] else "NO"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    sys.exit(main())
