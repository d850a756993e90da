"""How threads that compute are brought to an end when the process ends.

The interpreter ends daemon threads where they next ask for its lock. Inside torch that is in the middle of
C++, and the whole process dies of SIGABRT, whatever its status was to be. So such a thread gets an exception
before that, between two operations. What threads compute is not known here.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
import time
from collections.abc import Callable, Collection

GRACE_SECONDS = 0.5
PATIENCE_SECONDS = 5.0
_ASK_AGAIN_SECONDS = 0.1

_at_work: dict[threading.Thread, Callable[[], None]] = {}


def interrupt_at_exit(thread: threading.Thread, close: Callable[[], None]) -> None:
    """Have a thread brought to an end when the process ends, if it is still at work.

    Args:
        thread: A thread that has been started; it says `is_done` when it has nothing more to do.
        close: Asks it to end by itself.
    """
    _at_work[thread] = close
    # Registered anew it comes before what was registered by now: the end of torch, for one.
    atexit.unregister(_end_all)
    atexit.register(_end_all)


def is_done(thread: threading.Thread) -> None:
    """A thread has nothing more to do."""
    _at_work.pop(thread, None)


def _end_all() -> None:
    # Those of a parent process are not alive in its forked child, and what they held stays held.
    there = {thread: close for thread, close in list(_at_work.items()) if thread.is_alive()}
    for close in there.values():
        close()
    interrupt(there)


def interrupt(
    threads: Collection[threading.Thread],
    *,
    grace: float = GRACE_SECONDS,
    patience: float = PATIENCE_SECONDS,
) -> bool:
    """Have threads end, by themselves or by `SystemExit`, and wait for them.

    Only for the end of a process: the exception may come anywhere in a thread's Python code.

    Args:
        threads: Any threads but the caller's.
        grace: Seconds in which they may end by themselves.
        patience: Seconds after that. One operation cannot be interrupted, and some are long.

    Returns:
        Whether all have ended.
    """
    began = time.monotonic()
    _wait(threads, began + grace)
    # Again and again: code that suppresses every exception may have suppressed this one.
    while (left := [thread for thread in threads if thread.is_alive()]) and (
        time.monotonic() < began + grace + patience
    ):
        for thread in left:
            _raise_in(thread)
        _wait(left, time.monotonic() + _ASK_AGAIN_SECONDS)
    return not left


def _wait(threads: Collection[threading.Thread], deadline: float) -> None:
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _raise_in(thread: threading.Thread) -> None:
    # No other implementation than CPython runs torch.
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))
