"""Azurite, Microsoft's emulator of blob storage, where Node is."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

VERSION = "3.35.0"
_START_S = 60


@contextmanager
def azurite() -> Iterator[int]:
    """Serve blobs on a port of this machine, kept in memory; skip the test where Node is not.

    Installed once, into a cache folder of the user's. Where ``CI`` is set its absence is a failure.
    """
    port = _free_port()
    command = [str(_program()), "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
    process = subprocess.Popen(
        [*command, "--blobHost", "127.0.0.1", "--skipApiVersionCheck", "--disableTelemetry"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(port):
            assert process.poll() is None, f"Azurite ended with exit status {process.returncode}"
            assert time.monotonic() < deadline, "Azurite does not answer"
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _program() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "airflow-mlgov-tests" / f"azurite-{VERSION}"
    program = folder / "node_modules" / ".bin" / "azurite-blob"
    npm = shutil.which("npm")
    if npm:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
            if not program.exists():
                command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund"]
                subprocess.run([*command, f"azurite@{VERSION}"], check=False, capture_output=True)
    if program.exists():
        return program
    if os.environ.get("CI"):
        pytest.fail("Azurite is not there and cannot be installed: no Node, or no registry")
    pytest.skip("left out: no Azurite (it needs Node, and npm's registry once)")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
