"""`make bench`: run every ``bench_*.py`` beside this file and write ``.bench/results.json``.

A benchmark is a program that prints one JSON object with ``name`` and ``ratio``, and, if it has a
goal, ``goal`` and ``met``; anything else it has to say goes to stderr. A goal that was missed is
shown and kept, but is no error: how fast a machine is today says nothing against the code. Only a
benchmark that could not run is one.
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
    """Run them one after the other; 0 if each could run."""
    results = []
    for file in sorted(HERE.glob("bench_*.py")):
        print(f"{file.stem} ...", file=sys.stderr, flush=True)
        results.append(_run(file))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    _print_table(results)
    print(f"Written to {RESULTS.relative_to(ROOT)}")
    return 1 if any("error" in result for result in results) else 0


def _run(file: Path) -> dict[str, Any]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(file)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    seconds = round(time.monotonic() - began, 1)
    blank = {"name": file.stem, "ratio": None, "goal": "", "met": False, "seconds": seconds}
    if done.returncode:
        return blank | {"error": f"exit code {done.returncode}"}
    try:
        result = json.loads(done.stdout.strip().splitlines()[-1])
        # Whoever states a goal has to say that it was met; silence is not a yes.
        return blank | {"met": not result.get("goal")} | result
    except (AttributeError, IndexError, ValueError):
        return blank | {"error": "printed no JSON object"}


def _print_table(results: list[dict[str, Any]]) -> None:
    rows = [("benchmark", "ratio", "goal", "met")]
    for result in results:
        ratio = result.get("ratio")
        shown = f"{ratio:.3g}" if isinstance(ratio, int | float) else result.get("error", "")
        rows.append((result["name"], shown, str(result["goal"]), _said(result)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def _said(result: dict[str, Any]) -> str:
    if not result["goal"] and result["met"]:
        return "-"
    return "yes" if result["met"] is True else "NO"


if __name__ == "__main__":
    sys.exit(main())
