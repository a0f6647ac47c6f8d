"""A script inside a container: its process, what it says, and how its failure is told."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.contract import GRACE_S
from airflow_mlgov.service.script_output import OutputLines, signal_name

MAX_FAILURE_BYTES = 1000

_HEAD_BYTES = 300
_LINGER_S = 1.0
_LOOK_S = 0.1


class ContainerScript:
    """A script as a process, and all that it starts in its process group.

    Args:
        what: Of the script, for errors: ``Training script``.
        failure: What is raised about it.
    """

    def __init__(self, what: str, failure: type[MlgovError]) -> None:
        self._what = what
        self._failure = failure
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped_at: float | None = None

    def stop(self, *_: object) -> None:
        """Pass on the platform's SIGTERM; the handler of it."""
        self._stopped_at = self._stopped_at or time.monotonic()
        self._signal(signal.SIGTERM)

    def refuse_stopped(self) -> None:
        """Do nothing unless the platform wants the job to end.

        Raises:
            MlgovError: It does.
        """
        if self._stopped_at is not None:
            raise self._failure("The platform stopped the job.")

    def wait_for_stop(self) -> None:
        """Return once the platform wants the job to end."""
        while self._stopped_at is None:
            time.sleep(_LOOK_S)

    def run(self, script: Path, work: Path, variables: Mapping[str, str]) -> None:
        """Run a script to its end, its output going to ours line by line.

        Args:
            script: Its path.
            work: Its working directory.
            variables: Its whole environment.

        Raises:
            MlgovError: It failed, or the platform stopped the job.
        """
        self.refuse_stopped()
        lines = OutputLines()
        with subprocess.Popen(  # noqa: S603 - the script that was staged is what shall run
            [sys.executable, str(script)],
            cwd=work,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            self._process = process
            try:
                if self._stopped_at is not None:  # between the look and the start
                    self._signal(signal.SIGTERM)
                self._follow(process, lines)
            finally:
                self._signal(signal.SIGKILL)
                self._process = None
        self.refuse_stopped()
        status = process.returncode
        if status != 0:
            how = f"exited with status {status}"
            how = how if status > 0 else f"was ended by signal {signal_name(-status)}"
            raise self._failure(f"{self._what} {script.name} {how}. {lines.said_last()}")

    def _follow(self, process: subprocess.Popen[bytes], lines: OutputLines) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        is_open, ended_at = True, None
        while is_open or ended_at is None:
            if is_open:
                is_open = _pass_on(process.stdout.fileno(), lines)
            else:
                time.sleep(_LOOK_S)
            if process.poll() is None:
                self._end_if_late()
            elif ended_at is None:
                ended_at = time.monotonic()
            elif time.monotonic() - ended_at > _LINGER_S:
                break  # what it left behind holds the pipe
        for line in lines.end():
            say(line)

    def _end_if_late(self) -> None:
        if self._stopped_at is not None and time.monotonic() - self._stopped_at > GRACE_S:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def ended(work: Callable[[], str], script: ContainerScript, failure: Path | None) -> int:
    """Do a container's work and return its exit status; why it failed is said.

    Args:
        work: Returns the last line of the log.
        script: Told of the platform's SIGTERM.
        failure: File in which a platform reads why it failed; None for none.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # a script may say what the container's locale cannot
        sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, script.stop)
    try:
        last = work()
    except MlgovError as error:
        return _fail(str(error), failure)
    except OSError as error:
        return _fail(f"The container's files cannot be used: {error}.", failure)
    except Exception as error:  # noqa: BLE001 - the text is all that leaves the container
        traceback.print_exc()
        return _fail(f"The entry point failed: {error!r}.", failure)
    say(last)
    return 0


def read_code(path: Path, staged: Digest, failure: type[MlgovError]) -> bytes:
    """Return the bytes of a code file, if they are the ones that were staged.

    Raises:
        MlgovError: `failure`: they are not, or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise failure(f"Code file {path} cannot be read: {error.strerror}.") from error
    if Digest.of(data) != staged:
        raise failure(
            f"Code file {path} is not what was staged: it is {Digest.of(data)}, not {staged}."
        )
    return data


def say(line: str) -> None:
    """Write a line of the container's log."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(problem: str, file: Path | None) -> int:
    text = _shortened(problem)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            sys.stderr.write(f"{file} cannot be written: {error.strerror}\n")
    sys.stderr.write(f"{text}\n")
    return 1


def _shortened(text: str) -> str:
    """Return its first and last part if it is too long: the reason, and how the output ends."""
    data = text.encode("utf-8", errors="replace")
    if len(data) > MAX_FAILURE_BYTES:
        gap = b"\n[...]\n"
        data = data[:_HEAD_BYTES] + gap + data[_HEAD_BYTES + len(gap) - MAX_FAILURE_BYTES :]
    return data.decode("utf-8", errors="ignore")


def _pass_on(output: int, lines: OutputLines) -> bool:
    """Hand on what was said, waiting a moment for it; return whether more may come."""
    ready, _, _ = select.select([output], [], [], _LOOK_S)
    if not ready:
        return True
    data = os.read(output, 65536)
    for line in lines.feed(data):
        say(line)
    return bool(data)
