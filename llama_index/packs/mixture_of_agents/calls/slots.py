"""A limit on calls in flight that holds across runs, event loops and threads.

An asyncio.Semaphore belongs to one loop; this one belongs to the process. A call that asks the same mixture
again, through a tool, waits for what it asked: it lends its slot, or both would wait for ever. What the calls
are is not known here.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import MappingProxyType

_lent: ContextVar[Mapping[CallSlots, CallSlots]] = ContextVar(
    "mixture_of_agents_lent_slots", default=MappingProxyType({})
)
"""The slot that the call at work here holds of each limit, as a limit of one for what it asks."""


class CallSlots:
    """So many calls at once, first come first served.

    A blocking call that was left behind at a deadline no longer holds its slot: it may hang for ever.

    Args:
        limit: Most calls in flight; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._is_over = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._free = self._limit
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Wait for a slot, hold it within the block, give it back however the block ends."""
        if self._limit is None:
            yield
            return
        lent = _lent.get().get(self)
        slots = self if lent is None or lent._is_over or self._has_free() else lent
        await slots._acquire()
        try:
            async with self._lending():
                yield
        finally:
            slots._release()

    @asynccontextmanager
    async def _lending(self) -> AsyncIterator[None]:
        """Within the block, calls that come from here have this slot, one after another."""
        before, mine = _lent.get(), CallSlots(1)
        _lent.set({**before, self: mine})
        try:
            yield
        finally:
            _lent.set(before)
            mine._is_over = True  # whoever was left behind has no slot any more

    def _has_free(self) -> bool:
        with self._lock:
            return bool(self._free)

    async def _acquire(self) -> None:
        if self._pid != os.getpid():
            self._begin()  # whoever held or awaited a slot did not come along through the fork
        turn = self._take_or_queue()
        if turn is None:
            return
        try:
            await asyncio.wrap_future(turn)
        except BaseException:  # cancelled; or closed, when a loop ends without cancelling its tasks
            # The slot may have been handed over in the moment the caller was cancelled.
            if not turn.cancel():
                self._release()
            raise

    def _take_or_queue(self) -> Future[None] | None:
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            turn: Future[None] = Future()
            self._waiting.append((asyncio.get_running_loop(), turn))
            return turn

    def _release(self) -> None:
        with self._lock:
            turn = self._next_in_line()
            if turn is None:
                self._free = (self._free or 0) + 1
        if turn is not None:
            turn.set_result(None)

    def _next_in_line(self) -> Future[None] | None:
        while self._waiting:
            loop, turn = self._waiting.popleft()
            # A loop that was closed with tasks pending never takes what it is handed.
            if not loop.is_closed() and turn.set_running_or_notify_cancel():
                return turn
        return None
