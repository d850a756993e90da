"""Blocking work beside an event loop, and async work behind blocking callers.

Threads here are daemons on purpose: a blocking call cannot be stopped, and one that is left behind at
a deadline must not keep the process alive. A pool would also cap how many run at once. Knows nothing
of models.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_logger = logging.getLogger(__name__)


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking `work` in a thread of its own; on cancellation it is left behind, unheard."""
    outcome: Future[T] = Future()
    context = contextvars.copy_context()

    def carry() -> None:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            outcome.set_result(context.run(work))
        except StopIteration as error:  # no future takes one: it would never be done
            outcome.set_exception(RuntimeError(f"the call raised {error!r}"))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=carry, daemon=True, name="moa-call").start()
    return await asyncio.wrap_future(outcome)


async def called(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the user's gives, plain or async; a plain one may block, so it has a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    given = await in_thread(lambda: function(*arguments))
    return await given if inspect.isawaitable(given) else given


async def iterate_in_thread(start: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
    """Step through a blocking iterator in a thread; leaving stops it at its next item."""
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    left = threading.Event()
    context = contextvars.copy_context()

    def put(kind: str, value: Any = None) -> None:
        if left.is_set():
            return
        try:
            loop.call_soon_threadsafe(items.put_nowait, (kind, value))
        except RuntimeError:  # the loop is closed: nobody listens any more
            left.set()

    def carry() -> None:
        try:
            for item in start():
                put("item", item)
                if left.is_set():
                    return
            put("end")
        except BaseException as error:
            put("error", error)

    threading.Thread(target=lambda: context.run(carry), daemon=True, name="moa-stream").start()
    try:
        while (received := await items.get())[0] == "item":
            yield received[1]
        if received[0] == "error":
            raise received[1]
    finally:
        left.set()


class _LoopsThread(threading.Thread):
    """A thread that runs one of the loops here, and so must not wait for another."""


class LoopThread:
    """One event loop in one daemon thread, for callers that cannot await."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = _LoopsThread(target=self._serve, daemon=True, name="moa-loop")
        self._pid = os.getpid()
        self._stopping = False
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # asyncio lets these out of any task. A tool that exits must not end everyone's runs.
                _logger.warning("a task on the shared event loop tried to exit the process", exc_info=True)

    def is_lost(self) -> bool:
        """True in a forked child, where the thread no longer is."""
        return self._pid != os.getpid() or not self._thread.is_alive()

    def start(self, work: Coroutine[Any, Any, T]) -> tuple[Future[T], threading.Event]:
        """Begin `work`; the event is set when it has ended, unwinding after a cancellation included."""
        ended = threading.Event()

        async def guarded() -> T:
            try:
                return await work
            finally:
                ended.set()

        return asyncio.run_coroutine_threadsafe(guarded(), self._loop), ended

    def stop(self) -> None:
        """End the loop and its thread, and close what was opened on it."""
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_asyncgens(), self._loop).result()
        self._stopping = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_shared: LoopThread | None = None
_shared_lock = threading.Lock()


@contextmanager
def _loop_for_caller() -> Iterator[LoopThread]:
    """The process's shared loop, kept between calls so that clients keep their connections.

    A caller on a loop of this kind (a sync tool inside a run) gets one of its own for the while: the
    shared loop may be waiting for that very caller.
    """
    global _shared
    with _shared_lock:
        if _shared is None or _shared.is_lost():
            _shared = LoopThread()
        shared = _shared
    if not isinstance(threading.current_thread(), _LoopsThread):
        yield shared
        return
    own = LoopThread()
    try:
        yield own
    finally:
        own.stop()


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run async `work` for a blocking caller: in a script, inside a running loop, in a notebook.

    It never touches the caller's loop, so it needs no `nest_asyncio` and does not mind it. An
    interrupt (Ctrl-C) cancels the work, waits until it has unwound, and is raised on.
    """
    with _loop_for_caller() as loop:
        future, ended = loop.start(work)
        with _cancelled_on_exit(future, ended):
            return future.result()


def iterate_blocking(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """Iterate async `items` for a blocking caller; closing this generator closes them."""
    arrived: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    async def pump() -> None:
        try:
            async for item in items:
                arrived.put(("item", item))
            arrived.put(("end", None))
        except BaseException as error:  # a cancellation, too, or the caller would wait for ever
            arrived.put(("error", error))
            if not isinstance(error, Exception):
                raise
        finally:
            await items.aclose()

    with _loop_for_caller() as loop:
        future, ended = loop.start(pump())
        with _cancelled_on_exit(future, ended):
            while (received := arrived.get())[0] == "item":
                yield received[1]
            if received[0] == "error":
                raise received[1]


@contextmanager
def _cancelled_on_exit(future: Future[Any], ended: threading.Event, patience: float = 5.0) -> Iterator[None]:
    try:
        yield
    finally:
        if not future.done():
            future.cancel()
            ended.wait(patience)
