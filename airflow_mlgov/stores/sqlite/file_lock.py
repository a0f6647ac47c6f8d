"""An advisory lock between processes and threads, fair to all that queue for it."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_mlgov.errors import LedgerUnavailableError

LOCK_MODE = 0o660
"""Permissions of a lock's file, less what the umask takes: nobody else can hold up the ledger."""


@contextmanager
def file_lock(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock that a file stands for; the kernel frees it when the process dies.

    Args:
        path: The lock's file, made if it is missing, and never removed.
        timeout_s: How long to queue for it, in seconds.

    Raises:
        LedgerUnavailableError: Another process held it all that time; a retry may help.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, LOCK_MODE)
    if not _acquire(descriptor, timeout_s):
        raise LedgerUnavailableError(
            f"Another process held {path} for more than {timeout_s:g} seconds."
        )
    try:
        yield
    finally:
        # A child forked meanwhile has the descriptor too: only unlocking, not closing, frees the
        # lock.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextmanager
def try_file_lock(path: Path) -> Iterator[bool]:
    """Hold the lock that a file stands for, if nobody does; yields False, at once, if somebody has.

    The kernel frees it when this process dies, whatever children it has forked meanwhile.

    Args:
        path: The lock's file, made if it is missing, and never removed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, LOCK_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    _HELD.add(descriptor)
    owner = os.getpid()
    try:
        yield True
    finally:
        if owner == os.getpid():
            _HELD.discard(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


_HELD: set[int] = set()
"""Descriptors of locks that a child must not keep when this process dies."""


def _leave_to_parent() -> None:
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


def _acquire(descriptor: int, timeout_s: float) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _Queueing(descriptor).wait(timeout_s)
    return True


class _Queueing:
    """A wait in the kernel's fair queue, in a thread because the kernel knows no time limit."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mutex = threading.Lock()
        self._arrived = threading.Event()
        self._given_up = False

    def wait(self, timeout_s: float) -> bool:
        threading.Thread(target=self._queue, name="mlgov-ledger-lock", daemon=True).start()
        self._arrived.wait(timeout_s)
        with self._mutex:
            self._given_up = not self._arrived.is_set()
        return not self._given_up

    def _queue(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        with self._mutex:
            if not self._given_up:
                self._arrived.set()
                return
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
