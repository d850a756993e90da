"""Appending whole lines to files, in a thread of its own.

Several processes and threads may append to one file: each piece goes out in one write, under a lock, so
that no line stands within another. A piece that the disk had no room for is taken back. It knows nothing of
what the lines say.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llama_index.packs.mixture_of_agents.locks import FileLock, HeldElsewhereError

_logger = logging.getLogger(__name__)
_IDLE_SECONDS = 1.0
_PAUSE_SECONDS = 0.01

if sys.platform == "win32":

    @contextmanager
    def _alone(handle: int, path: Path) -> Iterator[None]:
        lock = _neighbour_lock(path.with_name(f"{path.name}.lock"))
        try:
            yield
        finally:
            lock.release()

    def _neighbour_lock(path: Path) -> FileLock:
        while True:
            try:
                return FileLock(path)
            except HeldElsewhereError:
                time.sleep(0.001)
else:
    import fcntl

    @contextmanager
    def _alone(handle: int, path: Path) -> Iterator[None]:
        # Closing the file lets go of it, as does the end of the process.
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def append(path: Path, text: str) -> None:
    """Append whole lines to a file, which is made where there is none; its owner alone may read it.

    Args:
        path: The file.
        text: Lines in ASCII, each with its end.

    Raises:
        OSError: It cannot be written; then the file is as it was.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o600)
    try:
        with _alone(handle, path):
            _write_whole(handle, text.encode("ascii"))
    finally:
        os.close(handle)


def _write_whole(handle: int, data: bytes) -> None:
    end = os.lseek(handle, 0, os.SEEK_END)
    if _is_cut(handle, end):  # by a process that was killed: its half line stays a line of its own
        data = b"\n" + data
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(handle, left) :]
    except OSError:
        os.ftruncate(handle, end)
        raise


def _is_cut(handle: int, end: int) -> bool:
    if not end:
        return False
    os.lseek(handle, end - 1, os.SEEK_SET)
    return os.read(handle, 1) != b"\n"


class Appender:
    """Takes work from an event loop, and does it in order in a thread that ends when it has none.

    The thread begins a moment after work came in: a loop that has just asked several models goes on
    undisturbed, and what it has to say is written while it waits for them.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._hurry = threading.Event()

    def put(self, job: Callable[[], None]) -> None:
        """Have it done; what it raises is logged."""
        with self._lock:
            if self._pid != os.getpid():  # a forked child: the thread, and what waits for it, is its parent's
                self._jobs, self._thread, self._pid = queue.SimpleQueue(), None, os.getpid()
            self._jobs.put(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="moa-trace")
                self._thread.start()

    def drain(self, seconds: float) -> bool:
        """Have all that was put done now, and wait for it, so long at most; False where it is not done."""
        done = threading.Event()
        self.put(done.set)
        self._hurry.set()
        return done.wait(seconds)

    def _work(self) -> None:
        while True:
            job = self._next(_IDLE_SECONDS)
            if job is None and self._is_over():
                return
            self._hurry.wait(_PAUSE_SECONDS)
            while job is not None:
                _do(job)
                job = self._next(0)
            self._hurry.clear()

    def _next(self, seconds: float) -> Callable[[], None] | None:
        try:
            return self._jobs.get(timeout=seconds) if seconds else self._jobs.get_nowait()
        except queue.Empty:
            return None

    def _is_over(self) -> bool:
        with self._lock:
            if self._jobs.empty():
                self._thread = None
            return self._thread is None


def _do(job: Callable[[], None]) -> None:
    try:
        job()
    except Exception:
        _logger.warning("something of a run could not be written down", exc_info=True)
