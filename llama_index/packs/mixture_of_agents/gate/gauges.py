"""What is used of one pattern's limits: calls out, requests and tokens of the last minute, money.

A sliding window, not a token bucket: a full bucket that refills lets twice its size through within a minute,
and the limit is to hold in every one. Each gauge is read and written under the lock of the line it belongs to
(`waiting_line`); it waits for nothing and starts nothing.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from llama_index.packs.mixture_of_agents.gate.limits import Limits, Need

MINUTE = 60.5
"""Seconds: a minute, and the half second by which one call's way to its provider may be shorter than
another's. Counted from here, 60 seconds could be fewer there."""
_ROUNDING = 1e-12
"""USD that sums of floats may be off."""


class Window:
    """Amounts used within a minute, and amounts held by calls that are out, against a limit.

    Args:
        limit: Most of both together; None for no limit, then nothing is counted.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._held = 0
        self._used = 0
        self._past: deque[tuple[float, int]] = deque()

    def taken(self, now: float) -> int:
        """What is used or held."""
        while self._past and self._past[0][0] <= now:
            self._used -= self._past.popleft()[1]
        return self._held + self._used

    def room(self, now: float) -> float:
        """What is left; infinite without a limit."""
        return math.inf if self.limit is None else self.limit - self.taken(now)

    def hold(self, amount: int) -> None:
        """A call that goes out may use so much; below 0, it will not use it after all."""
        if self.limit is not None:
            self._held += amount

    def book(self, amount: int, now: float) -> None:
        """So much is used now."""
        if self.limit is not None and amount > 0:
            self._used += amount
            self._past.append((now + MINUTE, amount))

    def opens(self, amount: int, now: float) -> float:
        """When time alone makes room for so much; infinite where calls that are out must come back first."""
        over = amount - self.room(now)
        if over <= 0:
            return now
        for when, passed in self._past:
            over -= passed
            if over <= 0:
                return when
        return math.inf


class Money:
    """What was spent of a share in a budget, and is held by calls that are out or wait.

    Args:
        of_run: Most of it for one run, in US dollars; None for no limit.
        of_all: Most of it for all runs together.

    Attributes:
        of_all_runs: What all runs have spent or hold, in US dollars.
    """

    def __init__(self, of_run: float | None, of_all: float | None) -> None:
        self._limits = {"of a run": of_run, "of all runs": of_all}
        self._taken: dict[str, float] = {}
        self.of_all_runs = 0.0

    @property
    def is_limited(self) -> bool:
        """Whether there is a share at all."""
        return any(limit is not None for limit in self._limits.values())

    def refuses(self, usd: float | None, run_id: str) -> str:
        """Why so much cannot be spent here; empty where it can."""
        if not self.is_limited:
            return ""
        if usd is None:
            return "has a share of the budget, and nobody knows what this call costs"
        taken = {"of a run": self._taken.get(run_id, 0.0), "of all runs": self.of_all_runs}
        for which, limit in self._limits.items():
            if limit is not None and taken[which] + usd > limit + _ROUNDING:
                return (
                    f"has a share of ${limit:.6g} in the budget {which}; ${taken[which]:.6g} of it is spent "
                    f"or held, and this call may cost ${usd:.6g}"
                )
        return ""

    def take(self, usd: float, run_id: str) -> None:
        """So much is spent or held; below 0, it is not after all."""
        if self.is_limited:
            self._taken[run_id] = self._taken.get(run_id, 0.0) + usd
            self.of_all_runs += usd

    def forget(self, run_id: str) -> None:
        """The run is over; what it spent stays spent of what all runs have."""
        self._taken.pop(run_id, None)


@dataclass(frozen=True)
class Use:
    """How much of one pattern's limits is taken now.

    Attributes:
        in_flight: Calls that are out, or are promised room by a gate.
        requests: Requests of the last minute, with those that calls in flight may yet take; 0 where there is
            no such limit.
        tokens: Likewise, tokens.
        usd: US dollars of all runs, spent or held, where there is a share in a budget.
    """

    in_flight: int
    requests: int
    tokens: int
    usd: float


class Gauge:
    """What is used of the limits of one pattern.

    Args:
        pattern: Whom it means.
        limits: What they take.
        budget: US dollars a run may cost; None for no such budget.
        total: US dollars all runs may cost.
    """

    def __init__(self, pattern: str, limits: Limits, budget: float | None, total: float | None) -> None:
        self.pattern, self.limits = pattern, limits
        self._budgets = (budget, total)
        self.begin()

    def begin(self) -> None:
        """Nothing is used."""
        share = self.limits.budget_share
        of_run, of_all = (None if share is None or b is None else share * b for b in self._budgets)
        self.in_flight = 0
        self.requests = Window(self.limits.requests_per_minute)
        self.tokens = Window(self.limits.tokens_per_minute)
        self.money = Money(of_run, of_all)

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited."""
        return self.tokens.limit is not None

    def never(self, need: Need, run_id: str) -> str:
        """Why waiting would not help; empty where it may."""
        for what, asked, window in self._asked(need):
            if window.limit is not None and asked > window.limit:
                return (
                    f"{self.pattern!r} takes {window.limit} {what} a minute, and this call may take {asked}"
                )
        refusal = self.money.refuses(need.usd, run_id)
        return f"{self.pattern!r} {refusal}" if refusal else ""

    def lacks(self, need: Need, now: float) -> str:
        """Why there is no room now; empty where there is."""
        limit = self.limits.in_flight
        if limit is not None and self.in_flight + need.calls > limit:
            return f"{self.pattern!r} has {self.in_flight} of {limit} calls in flight"
        for what, asked, window in self._asked(need):
            if asked > window.room(now):
                taken = f"{window.taken(now)} of its {window.limit} {what} a minute"
                return f"{self.pattern!r} has used or promised {taken}, and this call may take {asked}"
        return ""

    def opens(self, need: Need, now: float) -> float:
        """When time alone makes room; infinite where calls that are out must come back first."""
        limit = self.limits.in_flight
        if limit is not None and self.in_flight + need.calls > limit:
            return math.inf
        return max(window.opens(asked, now) for _, asked, window in self._asked(need))

    def fitting(self, need: Need, kept: Need, now: float) -> float:
        """How many calls such as this have room beside what is kept for others."""
        limit = self.limits.in_flight
        rooms = [
            (need.calls, math.inf if limit is None else limit - self.in_flight - kept.calls),
            (need.requests, self.requests.room(now) - kept.requests),
            (need.tokens, self.tokens.room(now) - kept.tokens),
        ]
        counts = [room // asked for asked, room in rooms if asked and room < math.inf]
        return max(0, min(counts, default=math.inf))

    def use(self, now: float) -> Use:
        """How much is taken."""
        return Use(self.in_flight, self.requests.taken(now), self.tokens.taken(now), self.money.of_all_runs)

    def hold(self, need: Need) -> None:
        """A call goes out that may use so much."""
        self.in_flight += need.calls
        self.requests.hold(need.requests)
        self.tokens.hold(need.tokens)

    def let_go(self, need: Need) -> None:
        """It is back, or did not go out after all."""
        self.in_flight -= need.calls
        self.requests.hold(-need.requests)
        self.tokens.hold(-need.tokens)

    def _asked(self, need: Need) -> tuple[tuple[str, int, Window], ...]:
        return (("requests", need.requests, self.requests), ("tokens", need.tokens, self.tokens))
