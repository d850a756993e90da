"""One round: when it closes, who is cut, and what comes next.

The decisions are pure functions of counts and times. `Round` carries them out on a running event
loop: it holds each call until it is done or the round has closed. It knows no models and no prompts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from llama_index.packs.mixture_of_agents.calls.tasks import stop

T = TypeVar("T")


@dataclass(frozen=True)
class RoundLimits:
    """How long a round waits.

    Attributes:
        quorum: Go on when so many proposals are in; None waits for all.
        grace: Seconds to wait on after the quorum is met.
        layer_timeout: Seconds for the whole round; None for no limit.
    """

    quorum: int | None = None
    grace: float = 0.0
    layer_timeout: float | None = None

    @property
    def wait_for_all(self) -> bool:
        """True when a round never closes on anyone."""
        return self.quorum is None and self.layer_timeout is None


def closing(limits: RoundLimits, opened: float, quorum_met: float | None) -> tuple[float, str] | None:
    """When a round closes on those still out, and why; None while nothing says it will.

    Args:
        limits: The round's limits.
        opened: When it opened, in the loop's seconds.
        quorum_met: When its quorum was met, None before that.
    """
    ends: list[tuple[float, str]] = []
    if quorum_met is not None:
        ends.append((quorum_met + limits.grace, f"not waited for: the quorum of {limits.quorum} was met"))
    if limits.layer_timeout is not None:
        ends.append((opened + limits.layer_timeout, f"cut at layer_timeout of {limits.layer_timeout:g} s"))
    return min(ends, default=None)


def meets_quorum(proposals: int, quorum: int | None) -> bool:
    """Whether so many proposals are enough to go on."""
    return quorum is not None and proposals >= quorum


def last_round_with_proposals(layers: Sequence[int]) -> int | None:
    """The round to go on from: the latest layer any proposal came from, None if none did."""
    return max(layers, default=None)


class Round:
    """A round in progress, on the running loop.

    Args:
        limits: When it closes.
    """

    def __init__(self, limits: RoundLimits) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._opened = self._loop.time()
        self._quorum_met: float | None = None
        self._proposals = 0
        self._closed: asyncio.Future[str] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._arm()

    def count_proposal(self) -> None:
        """One more proposal is in."""
        self._proposals += 1
        if self._quorum_met is None and meets_quorum(self._proposals, self._limits.quorum):
            self._quorum_met = self._loop.time()
            self._arm()

    async def hold(self, call: Coroutine[Any, Any, T], cut: Callable[[str], T]) -> T:
        """Await a call until it is done or the round closes.

        Then it is cancelled, and `cut(reason)` stands for it.
        """
        if self._limits.wait_for_all:
            return await call
        task = asyncio.ensure_future(call)
        ends: set[asyncio.Future[Any]] = {task, self._closed}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            await stop(task)
            return cut(self._closed.result())
        finally:
            if not task.done():
                task.cancel()

    def end(self) -> None:
        """Everyone is in: forget the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        end = closing(self._limits, self._opened, self._quorum_met)
        if end is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(end[0], self._close, end[1])

    def _close(self, reason: str) -> None:
        if not self._closed.done():
            self._closed.set_result(reason)
