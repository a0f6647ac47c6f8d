"""Scripts on this machine: a process, working directory and environment of their own."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_mlgov.service.container import environment_of
from airflow_mlgov.service.contract import GRACE_S, job_document, script_variables
from airflow_mlgov.service.provenance import describe_environment
from airflow_mlgov.service.script_output import OutputLines, signal_name

if TYPE_CHECKING:
    from airflow_mlgov.errors import MlgovError
    from airflow_mlgov.service.training_platform import ScriptJob

_FULL_BYTES = 64 * 1024
_KEEPER = Path(__file__).with_name("local_keeper.py")
_DISK_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_OUT_OF_MEMORY = ("MemoryError", "Cannot allocate memory", "std::bad_alloc", "Unable to allocate")


class LocalPlatform:
    """Runs scripts as processes of this machine.

    A script gets a session, process group, working directory and temporary folder of its own, and
    an environment without the worker's settings and credentials. It ends with the worker, however
    that dies, together with everything it started (a Linux guarantee; elsewhere daemons that leave
    the process group escape). The memory limit is one of address space (``RLIMIT_AS``); macOS does
    not enforce it. This separates a script from the worker's secrets in its environment, not from
    the worker's files.

    Args:
        name: Entry of the platform file.
        python: Interpreter that runs scripts.
        grace_s: Seconds that a script has to end after SIGTERM, before SIGKILL.

    Attributes:
        name: As given.
    """

    def __init__(
        self, name: str = "local", *, python: str = sys.executable, grace_s: float = GRACE_S
    ) -> None:
        self.name = name
        self._python = python
        self._grace_s = grace_s
        self._keeper_pid: int | None = None
        self._cancelled = False

    def run(self, job: ScriptJob, log: Callable[[str], None]) -> None:
        """Run a script to its end, handing each line of its output to `log` as it comes.

        Standard output and standard error come as one. Lines are cut at 4,000 bytes, undecodable
        bytes replaced, control characters dropped.

        Raises:
            MlgovError: The job's `failure`: the script could not be started, failed, ran too long,
                used too much memory, filled the disk or was cancelled; a retry does not help.
        """
        if not job.script.is_file():
            raise job.failure(
                f"There is no {job.what.lower()} {job.script}.",
                remedy="Correct the path 'script'.",
            )
        try:
            with tempfile.TemporaryDirectory(prefix="mlgov-work-") as work:
                self._run_in(Path(work), job, log)
        except OSError as error:
            hint = "The disk is full." if error.errno in {errno.ENOSPC, errno.EDQUOT} else ""
            raise job.failure(
                f"{job.what} {job.script.name} cannot be run: {error}.", remedy=hint
            ) from error

    def environment(self) -> dict[str, Any]:
        """Return interpreter, system and packages of the Python that scripts run in.

        Raises:
            ConfigurationError: It cannot be run; a retry does not help.
        """
        if self._python == sys.executable:
            return describe_environment()
        return environment_of(self._python)

    def cancel(self) -> None:
        """Stop the script and everything it started; safe in a signal handler and any thread."""
        self._cancelled = True
        if self._keeper_pid is not None:
            _terminate(self._keeper_pid)

    def _run_in(self, work: Path, job: ScriptJob, log: Callable[[str], None]) -> None:
        if self._cancelled:
            raise job.failure(f"{job.what} {job.script.name} was cancelled.")
        environment = _prepare(work, job)
        command = [
            self._python, "-I", str(_KEEPER), str(os.getpid()), str(job.memory_mb or 0),
            str(self._grace_s), self._python, str(job.script.resolve()),
        ]  # fmt: skip
        lines = OutputLines()
        with subprocess.Popen(  # noqa: S603 - the script that the DAG names is what shall run
            command,
            cwd=work / "work",
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as keeper:
            self._keeper_pid = keeper.pid
            try:
                if self._cancelled:  # between the check of nobody and the start of somebody
                    _terminate(keeper.pid)
                in_time = self._follow(keeper, lines, job.timeout_s, log)
            finally:
                _close(keeper.stdin)  # tells the keeper to end everything, whatever went wrong here
                status = keeper.wait()
                self._keeper_pid = None
        if self._cancelled:
            raise job.failure(f"{job.what} {job.script.name} was cancelled.")
        if not in_time:
            raise _failure(job, f"ran longer than {job.timeout_s:g} s and was ended", lines)
        if status != 0:
            raise _failure(job, _reason(status, job, work, lines.tail), lines)

    def _follow(
        self,
        keeper: subprocess.Popen[bytes],
        lines: OutputLines,
        timeout_s: float | None,
        log: Callable[[str], None],
    ) -> bool:
        """Hand on output until it ends; return False if the script had to be ended for its time."""
        assert keeper.stdout is not None  # noqa: S101 - it is a pipe
        output = keeper.stdout.fileno()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        in_time = True
        while True:
            wait = 1.0 if deadline is None else min(1.0, max(0.0, deadline - time.monotonic()))
            ready, _, _ = select.select([output], [], [], wait)
            if ready:
                data = os.read(output, 65536)
                for line in lines.feed(data):
                    log(line)
                if not data:
                    break
            elif keeper.poll() is not None:
                break  # somebody beyond our reach holds the pipe open
            if deadline is not None and time.monotonic() >= deadline:
                in_time, deadline = False, None
                _terminate(keeper.pid)
        for line in lines.end():
            log(line)
        return in_time


def _prepare(work: Path, job: ScriptJob) -> dict[str, str]:
    """Write the job file and return the environment of the script."""
    job_file, temporary = work / "job.json", work / "tmp"
    (work / "work").mkdir()
    temporary.mkdir()
    inputs = {name: str(Path(path).absolute()) for name, path in job.inputs.items()}
    output_dir = str(job.output_dir.absolute())
    job_file.write_bytes(job_document(inputs, job.parameters, job.seed, output_dir))
    variables = script_variables(str(job_file), inputs, job.seed, output_dir, str(temporary))
    return {**variables, **job.env}


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()


def _reason(status: int, job: ScriptJob, work: Path, tail: deque[str]) -> str:
    said = "\n".join(tail)
    if any(sign in said for sign in _DISK_FULL) or _is_full(job.output_dir) or _is_full(work):
        return f"exited with status {status}: the disk under {job.output_dir} or {work} is full"
    if any(sign in said for sign in _OUT_OF_MEMORY):
        limit = f"its limit of {job.memory_mb} MiB" if job.memory_mb else "what this machine has"
        return f"exited with status {status}: it needed more memory than {limit}"
    if status > 128:
        return f"was ended by signal {signal_name(status - 128)}"
    return f"exited with status {status}"


def _is_full(path: Path) -> bool:
    space = os.statvfs(path) if path.exists() else None
    return space is not None and space.f_bavail * space.f_frsize < _FULL_BYTES


def _failure(job: ScriptJob, reason: str, lines: OutputLines) -> MlgovError:
    return job.failure(f"{job.what} {job.script.name} {reason}. {lines.said_last()}")
