"""Stands between a worker and its training script, so that nothing of the script outlives either.

Run by `airflow_mlgov.platforms.local` as a program of its own (``python -I local_keeper.py``),
never imported: limits and death signals are set between fork and exec, where a worker with threads
may not run Python. It ends the script, and all that the script started, when

- its standard input closes, which happens whatever way the worker dies, on every system;
- it gets SIGTERM, which Linux also sends when the worker dies (PR_SET_PDEATHSIG);
- the script itself ends and leaves processes behind.

On Linux it adopts what the script's processes leave behind (PR_SET_CHILD_SUBREAPER), so daemons are
found too; elsewhere it reaches the script's process group only. It exits with the script's status,
128 + n for signal n.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 200
_PAUSE_S = 0.02


class _Script:
    """The one child that matters, and all that becomes a child later because its parent ended."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None

    def collect(self) -> int | None:
        """Collect whatever has ended; return the script's status once it has."""
        while True:
            try:
                pid, ended = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self.status
            if pid == 0:
                return self.status
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(ended)
                self.status = code if code >= 0 else 128 - code

    def watch(self, wake: int) -> bool:
        """Wait; return True when the script has ended and False when it must be ended."""
        while self.collect() is None:
            ready, _, _ = select.select([0, wake], [], [])
            if wake in ready and signal.SIGTERM in os.read(wake, 4096):
                return False
            if 0 in ready and not os.read(0, 4096):
                return False
        return True

    def wait(self, seconds: float) -> None:
        """Wait for the end of the script, a bounded time."""
        deadline = time.monotonic() + seconds
        while self.collect() is None and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)

    def end_all(self) -> None:
        """Kill the script's group and everything below this process until nothing is left."""
        _signal_group(self.pid, signal.SIGKILL)
        for _ in range(_ROUNDS):
            self.collect()
            left = _descendants(os.getpid())
            if not left:
                return
            for pid in left:
                _signal(pid, signal.SIGKILL)
            time.sleep(_PAUSE_S)


def keep(command: list[str], *, parent: int, memory_mb: int, grace_s: float) -> int:
    """Run a command to its end, or end it; return its status.

    Args:
        command: Absolute path of a program, and its arguments.
        parent: Process id of the worker.
        memory_mb: Limit of address space in MiB; 0 for none.
        grace_s: Seconds between SIGTERM and SIGKILL.
    """
    wake = _listen_for_signals()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:
        return 128 + signal.SIGTERM
    pid = os.fork()
    if pid == 0:
        _become(command, memory_mb)
    script = _Script(pid)
    if not script.watch(wake):
        _signal_group(pid, signal.SIGTERM)
        script.wait(grace_s)
    script.end_all()
    script.wait(grace_s)
    return 128 + signal.SIGKILL if script.status is None else script.status


def _listen_for_signals() -> int:
    wake, write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return wake


def _become(command: list[str], memory_mb: int) -> None:
    """In the child: set limits and signals, then be the script."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for name in ("SIGTERM", "SIGCHLD", "SIGINT", "SIGPIPE", "SIGXFSZ"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _limit(resource.RLIMIT_CORE, 0)  # a core dump would hold the data
        if memory_mb:
            _limit(resource.RLIMIT_AS, memory_mb * 1024 * 1024)
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except (OSError, ValueError) as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _limit(kind: int, amount: int) -> None:
    hard = resource.getrlimit(kind)[1]
    bound = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(kind, (bound, bound))


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _descendants(of: int) -> list[int]:
    """Return every process below one, from /proc; empty where there is none."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # ended while we looked
        if fields and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    queue = [of]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def main(arguments: Sequence[str]) -> int:
    """Run ``local_keeper.py PARENT MEMORY_MB GRACE_S PROGRAM [ARGUMENT ...]``."""
    parent, memory_mb, grace_s, *command = arguments
    return keep(command, parent=int(parent), memory_mb=int(memory_mb), grace_s=float(grace_s))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
