"""Calls under limits without a mixture: a provider that counts what reaches it, and runs that call it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, ModelIdentity, SeatFacts
from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
from llama_index.packs.mixture_of_agents.gate.gauges import MINUTE
from llama_index.packs.mixture_of_agents.gate.limits import Limits
from llama_index.packs.mixture_of_agents.gate.run_capacity import RunCapacity
from llama_index.packs.mixture_of_agents.policies import Meter, RunStart
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Proposal, Usage
from tests.gate.simulated_time import loop_time


def identity(model: str = "m") -> ModelIdentity:
    return ModelIdentity(class_name="Provider", model=model)


def seat(name: str, model: str | None = None, max_tokens: int | None = 10) -> SeatFacts:
    return SeatFacts(name=name, identity=identity(model or name), max_tokens=max_tokens)


def start(
    run_id: str = "run",
    names: Sequence[str] = ("m",),
    max_retries: int = 0,
    meter: Meter | None = None,
) -> RunStart:
    seats = [seat(name) for name in names]
    facts = MixtureFacts(layers=[seats], aggregator=seat("writer"), max_retries=max_retries)
    return RunStart(run_id, [], facts, meter)


def call(
    run_id: str = "run", index: int = 0, model: str = "m", text: str = "", max_tokens: int | None = 10
) -> Call:
    return Call(
        run_id,
        1,
        index,
        model,
        [ChatMessage(content=text)],
        Sampling(max_tokens=max_tokens),
        identity=identity(model),
    )


def proposal(to: Call, used: int | None = None, cost: float | None = None) -> Proposal:
    usage = Usage(prompt_tokens=0 if used is not None else None, completion_tokens=used, cost_usd=cost)
    return Proposal(proposer=to.proposer, layer=1, text="an answer", usage=usage)


def capacity_of(limits: dict[str, Limits], **settings: Any) -> Capacity:
    """Limits in the loop's time, with all the time in the world unless told otherwise."""
    return Capacity(limits, **{"deadline": 100_000.0, "clock": loop_time, **settings})


@dataclass
class Provider:
    """Counts what reaches it, by model, in its loop's time."""

    arrivals: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    order: dict[str, list[int]] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)
    peak: Counter[str] = field(default_factory=Counter)

    async def answer(self, to: Call, seconds: float, tokens: int) -> None:
        model = to.proposer
        self.arrivals.setdefault(model, []).append((loop_time(), tokens))
        self.in_flight[model] += 1
        self.peak[model] = max(self.peak[model], self.in_flight[model])
        try:
            await asyncio.sleep(seconds)
        finally:
            self.in_flight[model] -= 1

    def most_within(self, model: str, seconds: float = 60.0) -> tuple[int, int]:
        """Most requests, and most tokens, that came in any so many seconds, both ends within."""
        came = self.arrivals.get(model, [])
        windows = [[amount for at, amount in came if begin <= at <= begin + seconds] for begin, _ in came]
        return max(map(len, windows), default=0), max(map(sum, windows), default=0)


async def one_call(
    part: RunCapacity, provider: Provider, to: Call, seconds: float = 1.0, used: int = 10, tries: int = 1
) -> bool:
    """A call as a mixture places it; whether it had room."""
    if await part.before(to) is not None:
        return False
    try:
        for left in reversed(range(tries)):  # all but the last are answered with an error, which is free
            part.sent(to)
            await provider.answer(to, seconds, 0 if left else used)
    except asyncio.CancelledError:
        part.ended(asyncio.CancelledError())  # as a run says it that is cancelled
        raise
    await part.after(to, proposal(to, used))
    return True


async def assert_all_is_free(capacity: Capacity) -> None:
    """Nobody waits, and a minute later nothing is taken: nothing was held for good."""
    assert capacity.waiting() == 0
    assert all(use.in_flight == 0 for use in capacity.use().values())
    await asyncio.sleep(MINUTE)
    assert all(use.requests == use.tokens == 0 for use in capacity.use().values())
