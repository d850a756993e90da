"""What one run may take out of its ledgers, call by call.

The run's own budget and one that it shares with other runs are drawn from together. It knows places of
calls and amounts, and not what they are for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llama_index.packs.mixture_of_agents.records.spending.ledger import NOTHING, Amount, Ledger

Place = tuple[int, int, int]


class Purse:
    """A run's money.

    Args:
        run_id: The run, in whose name it is held.
        ledgers: Its own, first; then those it shares.
    """

    def __init__(self, run_id: str, ledgers: Sequence[Ledger]) -> None:
        self._run_id, self._ledgers = run_id, ledgers
        self._out: dict[Place, Amount] = {}
        self._assumed: dict[Place, Amount] = {}
        self._known: dict[Place, Amount] = {}
        self._spent = NOTHING
        self._closed = False

    def room(self) -> Amount:
        """What there is for calls that are not out yet."""
        rooms = [ledger.room(self._run_id) for ledger in self._ledgers]
        least = rooms[0]
        for room in rooms[1:]:
            least = least.least(room)
        return least - self._all_out()

    def take(self, place: Place, bound: Amount, beside: Amount) -> bool:
        """Hold back what a call costs at most, and so much beside it; False where it is not there."""
        if not self._held(self._all_out() + bound + beside):
            return False
        self._out[place] = bound
        return True

    def keep(self, beside: Amount) -> bool:
        """Hold back so much beside what is out; False, and no change, where it is not there."""
        return self._held(self._all_out() + beside)

    def settle(self, place: Place, cost: Amount) -> bool:
        """A call is back and cost so much; False where that is more than it should have been able to."""
        if self._closed:  # it was taken down at the most it can have cost
            self.learn(place, cost)
            return True
        bound = self._out.pop(place, None)
        self._spend(cost)
        return bound is None or cost.fits(bound)

    def assume(self, place: Place) -> None:
        """A call is back without an answer, and nobody said what it cost: the most it can have."""
        if self._closed:
            return
        bound = self._out.pop(place, NOTHING)
        cost = self._known.pop(place, None)
        if cost is None:
            self._assumed[place] = bound
        self._spend(bound if cost is None else cost)

    def learn(self, place: Place, cost: Amount) -> None:
        """What a call without an answer really cost, before or after it was taken down."""
        if place in self._assumed:
            difference = cost - self._assumed.pop(place)
            self._spent = self._spent + difference
            for ledger in self._ledgers:
                ledger.correct(difference)
        elif place in self._out:
            self._known[place] = cost

    def spent_before(self, cost: Amount) -> None:
        """The run has cost so much before it was resumed; those it shares with were told then."""
        self._spent = self._spent + cost
        self._ledgers[0].spend(self._run_id, cost)

    def close(self) -> None:
        """The run is over: calls that are still out may be charged, all else is free again.

        Calls that come back later change what was spent, and hold nothing.
        """
        for place in list(self._out):
            self.assume(place)
        self._closed = True
        for ledger in self._ledgers:
            ledger.release(self._run_id)

    def shown(self, amount: Amount) -> str:
        """An amount for a person, as far as it is limited."""
        limits = [ledger.limit for ledger in self._ledgers]
        usd = amount.usd if any(math.isfinite(limit.usd) for limit in limits) else math.inf
        tokens = amount.tokens if any(math.isfinite(limit.tokens) for limit in limits) else math.inf
        return str(Amount(usd, tokens))

    def figures(self) -> dict[str, Any]:
        """Limits and what was spent, by the names a `BudgetReport` has for them."""
        limit, assumed = self._ledgers[0].limit, sum(self._assumed.values(), NOTHING)
        limits = [ledger.limit for ledger in self._ledgers]
        usd = any(math.isfinite(one.usd) for one in limits)
        tokens = any(math.isfinite(one.tokens) for one in limits)
        return {
            "run_id": self._run_id,
            "limit_usd": limit.usd if math.isfinite(limit.usd) else None,
            "limit_tokens": int(limit.tokens) if math.isfinite(limit.tokens) else None,
            "spent_usd": self._spent.usd if usd else None,
            "spent_tokens": int(self._spent.tokens) if tokens else None,
            "assumed_usd": assumed.usd if usd else None,
            "assumed_tokens": int(assumed.tokens) if tokens else None,
        }

    def _all_out(self) -> Amount:
        return sum(self._out.values(), NOTHING)

    def _spend(self, cost: Amount) -> None:
        self._spent = self._spent + cost
        for ledger in self._ledgers:
            ledger.spend(self._run_id, cost)

    def _held(self, amount: Amount) -> bool:
        """Hold so much in every ledger, or change none."""
        if self._closed:
            return False
        before = [ledger.held(self._run_id) for ledger in self._ledgers]
        for number, ledger in enumerate(self._ledgers):
            if not ledger.hold(self._run_id, amount):
                for changed, held in zip(self._ledgers[:number], before, strict=False):
                    changed.hold(self._run_id, held)
                return False
        return True
