"""Runs without a mixture: the calls of one, put to its policy in any order, answered by chance.

It goes about a question as the workflow does, but draws who answers when, how long, and who fails. Whatever
a provider might charge is charged here, told or not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, ModelIdentity, SeatFacts
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.prompts import (
    aggregator_messages,
    condenser_messages,
    proposer_messages,
    ranking_messages,
    role_writer_messages,
)
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Task, Usage

QUESTION = [ChatMessage(role="user", content="Should a small team write its own deployment tool?")]
READERS: dict[str, Callable[..., list[ChatMessage]]] = {
    "synthesize": aggregator_messages,
    "condense": condenser_messages,
    "rank": ranking_messages,
}


def seat(name: str, max_tokens: int | None = 200, **more: Any) -> SeatFacts:
    """A seat whose model has the seat's name."""
    identity = ModelIdentity(class_name="Any", model=name)
    return SeatFacts(name=name, identity=identity, max_tokens=max_tokens, context_window=8_000, **more)


def mixture(layers: Sequence[Sequence[str]] = (("a", "b"), ("a", "b")), **more: Any) -> MixtureFacts:
    """Facts of a mixture by the names of its seats, with the aggregator "g"."""
    return MixtureFacts(
        layers=[[seat(name) for name in names] for names in layers], **{"aggregator": seat("g"), **more}
    )


def start(facts: MixtureFacts, run_id: str = "run", messages: Sequence[ChatMessage] = QUESTION) -> RunStart:
    """A run about to begin."""
    return RunStart(run_id=run_id, messages=messages, mixture=facts)


@dataclass
class Account:
    """What the providers charge in all."""

    usd: float = 0.0
    tokens: int = 0


@dataclass
class SimulatedRun:
    """One run, call by call.

    Attributes:
        facts: The mixture.
        policy: What is asked before and told after each call.
        prices: What the providers charge by.
        chance: Decides all that is left open.
        account: What they have charged.
        failing: How likely a call fails.
        fullness: The longest an answer gets, as a share of what it may have.
        placed: Calls that went out.
        refused: Calls that did not.
    """

    facts: MixtureFacts
    policy: Any
    prices: Prices
    chance: random.Random
    account: Account = field(default_factory=Account)
    failing: float = 0.2
    fullness: float = 1.0
    placed: list[Call] = field(default_factory=list)
    refused: list[Missing] = field(default_factory=list)

    async def run(self) -> str | None:
        """Go through all rounds and the finish; the answer, or None for none."""
        drafts: list[str] = []
        reads: list[str] = []
        for layer, seats in enumerate(self.facts.layers, 1):
            wanted = self.facts.roles_to_write(layer)
            if wanted and self.facts.role_writer is not None:
                prompt = role_writer_messages(QUESTION, wanted)
                await self.ask(self.facts.role_writer, (layer, -1, 0), "roles", prompt)
            came = await self.round(layer, seats, reads)
            drafts = reads = came or drafts
            if self.facts.pass_on == "condensed" and layer < len(self.facts.layers) and came:
                prompt = condenser_messages(QUESTION, came)
                text = await self.ask(self.facts.aggregator, (layer, len(seats), 0), "condense", prompt)
                reads = [text] if text is not None else drafts
        return await self.finish(drafts)

    async def round(self, layer: int, seats: Sequence[SeatFacts], reads: Sequence[str]) -> list[str]:
        """One round, its calls overlapping in any order."""
        waiting, out, texts = list(range(len(seats))), dict[int, Call](), dict[int, str]()
        while waiting or out:
            if waiting and (not out or self.chance.random() < 0.6):
                index = waiting.pop(self.chance.randrange(len(waiting)))
                prompt = proposer_messages(QUESTION, seats[index].role, reads)
                call = await self.begin(seats[index], (layer, index, 0), "propose", prompt)
                out |= {} if call is None else {index: call}
            else:
                index = self.chance.choice(sorted(out))
                text = await self.end(out.pop(index))
                texts |= {} if text is None else {index: text}
        return [texts[index] for index in sorted(texts)]

    async def finish(self, drafts: Sequence[str]) -> str | None:
        """The answer, by the aggregator or a stand-in, else the first draft as it is."""
        name = self.facts.finish["name"] if drafts else "synthesize"
        if name == "vote" or (name == "rank" and len(drafts) == 1):
            return drafts[0]
        task: Task = "rank" if name == "rank" else "synthesize"
        window = self.facts.finish.get("window", len(drafts) or 1)
        last = self.facts.layers[-1][:1] if self.facts.layers and drafts else []
        for attempt, writer in enumerate([self.facts.aggregator, *last]):
            text = await self.passes(writer, attempt, task, list(drafts), window)
            if text is not None:
                return text
        return drafts[0] if drafts else None

    async def passes(
        self, writer: SeatFacts, attempt: int, task: Task, left: list[str], window: int
    ) -> str | None:
        """The passes of one writer over the drafts."""
        text: str | None = ""
        for turn in range(1_000):
            now, left = (
                ([text or ""] if turn else []) + left[: window - (turn > 0)],
                left[window - (turn > 0) :],
            )
            place = (self.facts.num_layers, attempt, turn)
            text = await self.ask(writer, place, task, READERS[task](QUESTION, now))
            if text is None or not left:
                break
        return text

    async def ask(
        self, who: SeatFacts, place: tuple[int, int, int], task: Task, prompt: Sequence[ChatMessage]
    ) -> str | None:
        """One call, begun and ended."""
        call = await self.begin(who, place, task, prompt)
        return None if call is None else await self.end(call)

    async def begin(
        self, who: SeatFacts, place: tuple[int, int, int], task: Task, prompt: Sequence[ChatMessage]
    ) -> Call | None:
        """Put a call to the policy; None where it does not go out."""
        layer, index, turn = place
        sampling = Sampling(max_tokens=who.max_tokens)
        call = Call(
            "run", layer, index, who.name, prompt, sampling, task=task, turn=turn, identity=who.identity
        )
        decided = await self.policy.before(call)
        if isinstance(decided, Missing):
            self.refused.append(decided)
            return None
        call = replace(call, sampling=decided) if isinstance(decided, Sampling) else call
        self.placed.append(call)
        return call

    async def end(self, call: Call) -> str | None:
        """Have a call answered, or fail, and charge for it."""
        most = call.sampling.max_tokens or 1_000
        written = self.chance.randint(1, max(1, int(most * self.fullness)))
        size = sum(len((message.content or "").encode()) for message in call.messages)
        read = size if self.chance.random() < 0.3 else self.chance.randint(size // 5, size)
        if self.chance.random() < self.failing:
            await self.policy.after(call, self.failed(call, read, written))
            return None
        usage = self.charged(call, read, written)
        text = " ".join(self.chance.choice(["no", "deployment", "===", "ja"]) for _ in range(written))
        record = Proposal(
            proposer=call.proposer, layer=call.layer, text=text, usage=usage, latency_seconds=1.0
        )
        await self.policy.after(call, record)
        return text

    def failed(self, call: Call, read: int, written: int) -> Missing:
        """An error answer, which is not charged; or a call cut off, which may be."""
        if self.chance.random() < 0.5:
            return call.missing("overloaded", 503)
        self.charged(call, read, written)
        return call.cut("cut")

    def charged(self, call: Call, read: int, written: int) -> Usage:
        """What the provider charges."""
        cost = self.prices.cost(call.identity, read, written)
        self.account.usd += cost or 0.0
        self.account.tokens += read + written
        return Usage(prompt_tokens=read, completion_tokens=written, cost_usd=cost)
