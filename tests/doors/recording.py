"""A scripted mixture that writes down what passes through it, whichever door the question came in by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents import Missing, MixtureOfAgentsPack, Proposal
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

Entry = tuple[int, int, str, Sequence[ChatMessage], dict[str, Any], str]


@dataclass
class Recorder:
    """A policy that lets every call pass; `trace` is what was asked and what came back."""

    entries: list[Entry] = field(default_factory=list)

    async def before(self, call: Call) -> None:
        """Let it pass."""

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        said = outcome.text if isinstance(outcome, Proposal) else f"missing: {outcome.reason}"
        messages = list(call.messages)
        self.entries.append((call.layer, call.index, call.proposer, messages, call.sampling.given(), said))

    @property
    def trace(self) -> list[Entry]:
        """Every call by its place; the order in which they came back is not the mixture's."""
        return sorted(self.entries, key=lambda entry: entry[:2])


@dataclass
class Recorded:
    """A mixture of two proposers that answer, one that is down, two rounds and a synthesis."""

    pack: MixtureOfAgentsPack
    members: list[ScriptedLLM]
    recorder: Recorder

    def calls(self) -> list[list[tuple[str, dict[str, Any]]]]:
        """What each member was sent, by member."""
        return [[(call.text, call.options) for call in member.calls] for member in self.members]


def recorded(model: type[ScriptedLLM] = ScriptedLLM, strategy: str = "model") -> Recorded:
    """Made anew, with members of that class, seated by that strategy."""
    recorder = Recorder()
    a, b = model("first draft", model="a"), model(lambda _: ValueError("b is down"), model="b")
    c = model("<think>hm</think>third draft", model="c")
    aggregator = model("the final answer", model="g")
    settings: dict[str, Any] = {"max_tokens": 64, "temperature": 0.3, "strategy": strategy, "roles": "fixed"}
    pack = MixtureOfAgentsPack(aggregator, [a, b, c], policies=[recorder], **settings)
    return Recorded(pack, [a, b, c, aggregator], recorder)
