"""An event loop whose time passes at once: it jumps to the next timer, and says so when nothing will happen.

Deterministic where no threads take part. Knows nothing of what runs on it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 2.0
"""Real seconds for a thread to come back, where no timer is set."""


class StalledError(AssertionError):
    """Tasks are left, and nothing will ever wake them."""


class _Jumping(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(_PATIENCE)
            if not ready:
                raise StalledError("a wake-up was lost: tasks wait, and no timer is set")
            return ready
        self.now += max(0.0, timeout)
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Simulated seconds."""
        return self._jumping.now


def simulated(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in simulated time, as `asyncio.run` does in real time."""
    loop = SimulatedLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_all(loop)
        finally:
            loop.close()


def _cancel_all(loop: SimulatedLoop) -> None:
    async def cancel() -> None:
        left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    loop.run_until_complete(cancel())
    loop.run_until_complete(loop.shutdown_asyncgens())


def loop_time() -> float:
    """The running loop's seconds."""
    return asyncio.get_running_loop().time()


async def settled() -> None:
    """Let everything happen that is due."""
    for _ in range(10):
        await asyncio.sleep(0)
