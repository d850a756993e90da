"""Capacity: limits on providers, models and proposers that hold across runs, event loops and threads.

    capacity = Capacity({"OpenAI": Limits(in_flight=5, requests_per_minute=60)}, deadline=120)
    MixtureOfAgentsPack(llm, models, policies=[capacity])

A call waits for room, first come first served, and is `Missing` after the deadline. With a gate in front
(`dispatch.CappedGate`), who has no room is not asked at all, and the next best is. No limit is passed in any
60 seconds; tokens are reserved as estimated, and settled as used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from llama_index.packs.mixture_of_agents.checks import number, seconds
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, ModelIdentity, SeatFacts
from llama_index.packs.mixture_of_agents.gate.gauges import Gauge, Use
from llama_index.packs.mixture_of_agents.gate.limits import Limits, Need, checked_limits, means
from llama_index.packs.mixture_of_agents.gate.run_capacity import RunCapacity, part_under, take_part
from llama_index.packs.mixture_of_agents.gate.waiting_line import WaitingLine
from llama_index.packs.mixture_of_agents.policies import RunStart

_MOST_USD = 1e9


class Capacity:
    """What is asked of providers stays within limits; a `policies.RunPolicy`.

    One object serves any number of runs, event loops and threads of a process; a forked one begins anew.

    Args:
        limits: By pattern: the class that calls a model ("OpenAI"), class and model ("OpenAI(gpt-4o)"), or a
            proposer's name; `*` and `?` stand for any text and letter. All that a pattern means share its
            limits, and a call keeps to those of every pattern that means it.
        budget: US dollars a run may cost, for a `budget_share` to be a share of; None for no such share.
        total: Likewise, of all runs with this object together.
        deadline: Seconds a call waits for room.
        clock: Monotonic seconds.
        sleep: Waits so many seconds, in that clock.

    Raises:
        ConfigurationError: Something cannot work.
    """

    def __init__(
        self,
        limits: Mapping[str, Limits],
        *,
        budget: float | None = None,
        total: float | None = None,
        deadline: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._limits = checked_limits(limits)
        _check_budget(self._limits, budget, total)
        seconds("deadline", deadline, or_zero=True)
        self._deadline = float(deadline)
        self._gauges = [Gauge(pattern, given, budget, total) for pattern, given in self._limits.items()]
        self.line = WaitingLine(self._gauges, clock, sleep)

    @property
    def limits(self) -> dict[str, Limits]:
        """The limits by pattern."""
        return dict(self._limits)

    def for_run(self, start: RunStart) -> RunCapacity:
        """The policy of one run.

        Raises:
            ConfigurationError: A call could take more requests than a minute has.
        """
        self._check_tries(start.mixture)
        return take_part(RunCapacity(self.line, self._gauges, start, self._deadline))

    def room(self, identity: ModelIdentity | SeatFacts, name: str = "", tokens: int = 0) -> float:
        """How many more calls to a model could go out now, those who wait already served first.

        Args:
            identity: The model, or the seat it sits in.
            name: The proposer's name, where `identity` is none of a seat.
            tokens: What a call may read and write.

        Returns:
            0 for no room; infinite where nothing limits it. Shares in a budget are not looked at: whether
            there is money depends on the run.
        """
        model, called = (
            (identity.identity, identity.name) if isinstance(identity, SeatFacts) else (identity, name)
        )
        lane = tuple(gauge for gauge in self._gauges if means(gauge.pattern, model, called))
        return self.line.fitting(lane, Need(calls=1, requests=1, tokens=tokens))

    def use(self) -> dict[str, Use]:
        """How much of each limit is taken now, by pattern."""
        return self.line.use()

    def waiting(self) -> int:
        """How many calls wait for room."""
        return self.line.waiting()

    def part(self) -> RunCapacity:
        """This run's part in it, for a gate.

        Raises:
            ConfigurationError: The run has none, so nobody would count its calls.
        """
        part = part_under(self.line)
        if part is None:
            raise ConfigurationError(
                "A gate asks a Capacity for room that takes no part in this run, so nobody would count its "
                "calls. Pass the same object to the mixture, too: policies=[capacity]."
            )
        return part

    def _check_tries(self, mixture: MixtureFacts) -> None:
        """Refuse limits within which a call could not be tried again as often as it may be."""
        tries = 1 + mixture.max_retries
        seats = [*(seat for layer in mixture.layers for seat in layer), mixture.aggregator]
        for pattern, limits in self._limits.items():
            most = limits.requests_per_minute
            if most is None or most >= tries:
                continue
            if any(means(pattern, seat.identity, seat.name) for seat in seats):
                raise ConfigurationError(
                    f"With max_retries={mixture.max_retries} a call may take {tries} requests, and "
                    f"{pattern!r} takes {most} a minute. Use max_retries={most - 1} or less, or raise "
                    "requests_per_minute."
                )


def _check_budget(limits: Mapping[str, Limits], budget: Any, total: Any) -> None:
    number("budget", budget, 0, _MOST_USD, none="for no budget of a run")
    number("total", total, 0, _MOST_USD, none="for no budget of all runs")
    shares = [pattern for pattern, given in limits.items() if given.budget_share is not None]
    if shares and budget is None and total is None:
        raise ConfigurationError(
            f"{shares[0]!r} has a budget_share, but of what? Pass budget= (US dollars a run) or total= (all "
            "runs together)."
        )
