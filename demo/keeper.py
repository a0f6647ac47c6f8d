"""Runs a command and starts it again when it dies, as a service manager would; stdlib only.

Airflow's scheduler on SQLite needs it: without row locks, a task instance that is cleared while
the scheduler writes it ends the scheduler with StaleDataError.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import FrameType

LEAST_LIFE_S = 20
PAUSE_S = 0.5


def main(command: list[str]) -> int:
    """Keep a command running until told to stop; return its exit code if it dies at its start."""
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        child.terminate()

    while True:
        began = time.monotonic()
        child = subprocess.Popen(command)
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        code = child.wait()
        if stopping or time.monotonic() - began < LEAST_LIFE_S:
            return code
        print(f"\nIt ended with exit code {code} and is started again.", flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
