"""The line before limits: first come first served, across runs, event loops and threads.

Who has room goes at once; who has not waits until a call comes back or a minute has passed on. Calls under
the same limits go in the order they came, and nobody overtakes. A call that waits for a narrower limit does
not hold up those who have only the wider one in common with it; but once it has been the first of its kind
for a minute, what it needs of the wider one is kept for it as it comes free, so it is not starved either.

It knows no models.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from bisect import insort
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush

from llama_index.packs.mixture_of_agents.gate.gauges import MINUTE, Gauge, Use
from llama_index.packs.mixture_of_agents.gate.limits import Need
from llama_index.packs.mixture_of_agents.gate.tickets import Lane, Ticket

_LOOK_AGAIN = 5.0
"""Seconds. Whoever waits looks that often at the latest: the one in front, who keeps the time for all behind,
may have gone down with its loop."""
_GIVEN_UP = "its call was given up"


@dataclass
class _Pass:
    """One time through the line: who may not be overtaken, and what is kept for those in front."""

    closed: set[Gauge] = field(default_factory=set)
    kept: dict[Gauge, Need] = field(default_factory=dict)

    def stops(self, ticket: Ticket, now: float) -> bool:
        """Whether a ticket has to wait; then it is in front, in its way, of all that follow."""
        if not self.closed.isdisjoint(ticket.lane):
            ticket.wakes = math.inf  # whoever is in front of it looks for it, too
            return True
        needs = {gauge: ticket.need.beside(self.kept.get(gauge)) for gauge in ticket.lane}
        lacking = [gauge for gauge, need in needs.items() if gauge.lacks(need, now)]
        if not lacking:
            return False
        self.closed.update(lacking)
        if ticket.in_front_since is None:
            ticket.in_front_since = now
        if now - ticket.in_front_since >= MINUTE:  # at once would leave room idle while a window passes
            self.kept.update({gauge: need for gauge, need in needs.items() if gauge not in lacking})
        self._set_clock(ticket, max(gauge.opens(needs[gauge], now) for gauge in lacking))
        return True

    @staticmethod
    def _set_clock(ticket: Ticket, when: float) -> None:
        is_sooner, ticket.wakes = when < ticket.wakes, when
        if is_sooner:
            ticket.ring()


class WaitingLine:
    """A line before limits that several may be under at a time.

    Args:
        gauges: All limits.
        clock: Monotonic seconds.
        sleep: Waits so many seconds, in that clock.
    """

    def __init__(
        self,
        gauges: Sequence[Gauge],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._gauges, self._clock, self._sleep = gauges, clock, sleep
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._number = 0
        self._lanes: dict[Lane, list[Ticket]] = {}
        self._held: set[Ticket] = set()

    @contextmanager
    def _alone(self) -> Iterator[float]:
        """Nobody else changes anything within the block; yields the time."""
        if self._pid != os.getpid():  # whoever held or awaited something did not come through the fork
            self._begin()
            for gauge in self._gauges:
                gauge.begin()
        with self._lock:
            yield self._clock()

    def join(self, lane: Lane, need: Need, run_id: str, instead_of: Ticket | None = None) -> Ticket:
        """Stand in line; the ticket may hold what it needs at once, or be gone at once.

        Args:
            lane: What limits the call.
            need: What it may take.
            run_id: Whose call it is.
            instead_of: A ticket that is given back for this one, which takes its place in the order.
        """
        with self._alone() as now:
            return self._join(lane, need, run_id, instead_of, now)

    def take(self, lane: Lane, need: Need, run_id: str) -> Ticket:
        """As `join`, but without waiting: the ticket holds what it needs, or is gone and says why."""
        with self._alone() as now:
            ticket = self._join(lane, need, run_id, None, now)
            if ticket.state == "waiting":
                self._leave(ticket, self._why(ticket, now))
            return ticket

    async def wait(self, ticket: Ticket, seconds: float) -> str:
        """Wait until a ticket holds what it needs, and no longer than so many seconds.

        Returns:
            Empty; or why it is gone.
        """
        until: float | None = None
        try:
            while True:
                with self._alone() as now:
                    until = now + seconds if until is None else until
                    self._serve(now)
                    if ticket.state == "waiting" and now >= until:
                        self._leave(ticket, f"{self._why(ticket, now)}, after {seconds:g} s of waiting")
                    if ticket.state != "waiting":
                        return "" if ticket.state == "held" else ticket.why or _GIVEN_UP
                    ticket.bell.clear()
                    looks = (ticket.wakes, until, now + _LOOK_AGAIN)
                    rest = min(when for when in looks if when > now) - now
                await self._doze(ticket.bell, rest)
        except GeneratorExit:
            # A collector of garbage may have come here, even while this thread is at the line: no lock now.
            ticket.is_lost = True
            raise
        except BaseException:  # cancelled, perhaps in the moment of being served
            self.give_back(ticket)
            raise

    async def _doze(self, bell: asyncio.Event, seconds: float) -> None:
        naps = [asyncio.ensure_future(bell.wait()), asyncio.ensure_future(self._nap(seconds))]
        try:
            done, _ = await asyncio.wait(naps, return_when=asyncio.FIRST_COMPLETED)
            for nap in done:
                nap.result()  # a sleep that fails is not another way to wake up
        finally:
            for nap in naps:
                if not nap.get_loop().is_closed():  # closed, when the loop went without cancelling its tasks
                    nap.cancel()

    async def _nap(self, seconds: float) -> None:
        await self._sleep(seconds)

    def sent(self, ticket: Ticket) -> None:
        """A request of a call that holds what it needs goes out now."""
        with self._alone() as now:
            if ticket in self._held:
                self._send(ticket, now)
                self._serve(now)

    def settle(self, ticket: Ticket, tokens: int | None, usd: float | None) -> None:
        """A call that went out is back.

        Args:
            ticket: Its ticket.
            tokens: What it used; None where nobody knows: then what it might have.
            usd: What it cost; None likewise.
        """
        with self._alone() as now:
            self._settle(ticket, tokens, usd, now)
            self._serve(now)

    def give_back(self, ticket: Ticket, why: str = _GIVEN_UP) -> None:
        """A call does not go out after all, or nobody waits for it any more."""
        with self._alone() as now:
            self._give_back(ticket, why, now)
            self._serve(now)

    def forget(self, run_id: str) -> None:
        """A run is over."""
        with self._alone():
            for gauge in self._gauges:
                gauge.money.forget(run_id)

    def fitting(self, lane: Lane, need: Need) -> float:
        """How many calls such as this could go out now, with those who wait already served first."""
        with self._alone() as now:
            passed = self._serve(now)
            if not passed.closed.isdisjoint(lane):
                return 0
            kept = passed.kept
            return min(
                (gauge.fitting(need, kept.get(gauge, Need()), now) for gauge in lane), default=math.inf
            )

    def never(self, lane: Lane, need: Need, run_id: str) -> str:
        """Why waiting would not help; empty where it may."""
        with self._alone():
            return self._never(lane, need, run_id)

    def use(self) -> dict[str, Use]:
        """How much of each limit is taken, by pattern."""
        with self._alone() as now:
            return {gauge.pattern: gauge.use(now) for gauge in self._gauges}

    def waiting(self) -> int:
        """How many wait."""
        with self._alone():
            return sum(map(len, self._lanes.values()))

    def _join(self, lane: Lane, need: Need, run_id: str, instead_of: Ticket | None, now: float) -> Ticket:
        if instead_of is not None:
            self._give_back(instead_of, "", now)
        self._number += 1
        number = self._number if instead_of is None else instead_of.number
        ticket = Ticket(number, lane, need, run_id, asyncio.get_running_loop())
        ticket.why = self._never(lane, need, run_id)
        if ticket.why:
            ticket.state = "gone"
        else:
            self._pay(ticket, need.usd or 0.0)
            insort(self._lanes.setdefault(lane, []), ticket, key=lambda one: one.number)
        self._serve(now)
        return ticket

    @staticmethod
    def _never(lane: Lane, need: Need, run_id: str) -> str:
        return next((why for gauge in lane if (why := gauge.never(need, run_id))), "")

    @staticmethod
    def _pay(ticket: Ticket, usd: float) -> None:
        for gauge in ticket.lane:
            gauge.money.take(usd, ticket.run_id)

    def _serve(self, now: float) -> _Pass:
        """Let everyone go who has room, the first in line first."""
        self._drop_dead(now)
        passed = _Pass()
        heads = [(tickets[0].number, lane) for lane, tickets in self._lanes.items()]
        heapify(heads)
        while heads:
            _, lane = heappop(heads)
            if lane not in self._lanes or passed.stops(ticket := self._lanes[lane][0], now):
                continue
            self._step_out(ticket)
            self._let_through(ticket)
            self._drop_dead(now)
            if lane in self._lanes:
                heappush(heads, (self._lanes[lane][0].number, lane))
        return passed

    def _let_through(self, ticket: Ticket) -> None:
        ticket.state = "held"
        self._held.add(ticket)
        for gauge in ticket.lane:
            gauge.hold(ticket.need)
        ticket.ring()

    def _drop_dead(self, now: float) -> None:
        """A loop closed with tasks pending takes nothing it is handed, and gives nothing back."""
        for ticket in [one for one in self._held if one.is_dead]:
            self._give_back(ticket, _GIVEN_UP, now)
        for tickets in list(self._lanes.values()):
            while tickets and tickets[0].is_dead:
                self._leave(tickets[0], _GIVEN_UP)

    def _send(self, ticket: Ticket, now: float) -> None:
        promised = min(1, ticket.need.requests)
        for gauge in ticket.lane:
            gauge.let_go(Need(requests=promised))
            gauge.requests.book(1, now)
        ticket.need = replace(ticket.need, requests=ticket.need.requests - promised)
        ticket.was_sent = True

    def _settle(self, ticket: Ticket, tokens: int | None, usd: float | None, now: float) -> None:
        if ticket not in self._held:
            self._give_back(ticket, _GIVEN_UP, now)
            return
        if not ticket.was_sent:
            self._send(ticket, now)
        for gauge in ticket.lane:
            gauge.let_go(ticket.need)
            gauge.tokens.book(ticket.need.tokens if tokens is None else tokens, now)
        self._pay(ticket, 0.0 if usd is None else usd - (ticket.need.usd or 0.0))
        self._held.discard(ticket)
        ticket.state = "gone"

    def _give_back(self, ticket: Ticket, why: str, now: float) -> None:
        """Undo what a ticket holds; one that is gone, or of the time before a fork, holds nothing."""
        if ticket in self._lanes.get(ticket.lane, ()):
            self._leave(ticket, why)
        elif ticket in self._held and ticket.was_sent:
            self._settle(ticket, None, None, now)
        elif ticket in self._held:
            self._pay(ticket, -(ticket.need.usd or 0.0))
            for gauge in ticket.lane:
                gauge.let_go(ticket.need)
            self._held.discard(ticket)
            ticket.state, ticket.why = "gone", why

    def _leave(self, ticket: Ticket, why: str) -> None:
        self._step_out(ticket)
        self._pay(ticket, -(ticket.need.usd or 0.0))
        ticket.state, ticket.why = "gone", why
        ticket.ring()

    def _step_out(self, ticket: Ticket) -> None:
        tickets = self._lanes[ticket.lane]
        tickets.remove(ticket)
        if not tickets:
            del self._lanes[ticket.lane]

    @staticmethod
    def _why(ticket: Ticket, now: float) -> str:
        lacking = [why for gauge in ticket.lane if (why := gauge.lacks(ticket.need, now))]
        return " and ".join(lacking) or "others were there first"
