"""How a thread that computes is brought to an end when the process ends.

The interpreter ends daemon threads where they next ask for its lock. Inside torch that is in the middle of
C++, and the whole process dies of SIGABRT, whatever its status was to be. So the thread gets an exception
before that, between two operations. What the thread computes is not known here.
"""

from __future__ import annotations

import ctypes
import threading
import time

GRACE_SECONDS = 0.5
PATIENCE_SECONDS = 10.0
_ASK_AGAIN_SECONDS = 0.1


def interrupt(
    thread: threading.Thread, *, grace: float = GRACE_SECONDS, patience: float = PATIENCE_SECONDS
) -> bool:
    """Have a thread end, by itself or by `SystemExit`, and wait for it.

    Only for the end of a process: the exception may come anywhere in the thread's Python code.

    Args:
        thread: Any thread but the caller's.
        grace: Seconds in which it may end by itself.
        patience: Seconds after that. One operation cannot be interrupted, and some are long.

    Returns:
        Whether it has ended.
    """
    thread.join(grace)
    deadline = time.monotonic() + patience
    # Again and again: code that suppresses every exception may have suppressed this one.
    while thread.is_alive() and time.monotonic() < deadline:
        _raise_in(thread)
        thread.join(_ASK_AGAIN_SECONDS)
    return not thread.is_alive()


def _raise_in(thread: threading.Thread) -> None:
    # No other implementation than CPython runs torch.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
    )
