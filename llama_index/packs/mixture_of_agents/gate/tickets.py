"""A ticket: one call's place in the line before limits, and what it holds once it is past it.

Plain state, written under the lock of its line (`waiting_line`).
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from llama_index.packs.mixture_of_agents.gate.gauges import Gauge
from llama_index.packs.mixture_of_agents.gate.limits import Need

Lane = tuple[Gauge, ...]
"""Calls under the same limits stand in one lane."""


@dataclass(eq=False)
class Ticket:
    """One call's place, in the line or past it.

    Attributes:
        number: Lower ones came earlier.
        lane: What limits it.
        need: What it may take; once it holds that, what it may take yet.
        run_id: Whose call it is.
        loop: Where it waits.
        bell: Rung when it should look again.
        state: It is "waiting", has what it needs ("held"), or is "gone".
        why: Why it is gone, where it never got anything.
        in_front_since: When it was first in its lane and had to wait, in the clock's seconds; None for never.
        wakes: When it looks again by itself, in the clock's seconds.
        was_sent: A request of it went out.
        is_lost: Who waited with it was thrown away, not cancelled.
    """

    number: int
    lane: Lane
    need: Need
    run_id: str
    loop: asyncio.AbstractEventLoop
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    state: Literal["waiting", "held", "gone"] = "waiting"
    why: str = ""
    in_front_since: float | None = None
    wakes: float = math.inf
    was_sent: bool = False
    is_lost: bool = False

    @property
    def is_dead(self) -> bool:
        """Nobody will take what it is handed, or give back what it holds."""
        return self.is_lost or self.loop.is_closed()

    def ring(self) -> None:
        """Have it look again; a loop that is closed has nobody left to look."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.bell.set)
