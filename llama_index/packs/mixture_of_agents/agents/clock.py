"""A run's clock: it counts seconds, but none in which a person is waited for, and strikes when time is up.

Who is waited for, and what follows when it strikes, is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable


class RunClock:
    """The clock of one run; it begins at once.

    Args:
        now: Monotonic seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._began = now, now()
        self._waits: set[Hashable] = set()
        self._stood, self._stands_since = 0.0, 0.0
        self._limit: float | None = None
        self._strike: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def elapsed(self) -> float:
        """Seconds since the beginning, without those a person was waited for."""
        return (self._stands_since if self._waits else self._now()) - self._began - self._stood

    def arm(self, limit: float | None, strike: Callable[[], None]) -> None:
        """Call `strike` when it has counted so many seconds; None for never."""
        self._limit, self._strike = limit, strike
        self._set_timer()

    def pause(self, wait: Hashable) -> None:
        """A person is waited for.

        Args:
            wait: Which wait this is. Each ends by itself, and one that is told of twice is one.
        """
        if not self._waits:
            self._stands_since = self._now()
        self._waits.add(wait)
        self._set_timer()

    def go_on(self, wait: Hashable) -> None:
        """This wait is over; the clock goes on once none is left."""
        if wait not in self._waits:
            return
        self._waits.remove(wait)
        if not self._waits:
            self._stood += self._now() - self._stands_since
            self._set_timer()

    def stop(self) -> None:
        """The run is over: it strikes no more."""
        self._limit = None
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._limit is not None and self._strike is not None and not self._waits:
            left = max(0.0, self._limit - self.elapsed())
            self._timer = asyncio.get_running_loop().call_later(left, self._strike)
