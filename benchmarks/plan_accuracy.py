"""What `moa plan` says a run takes, against what the run then took, over ten configurations.

python -m benchmarks.plan_accuracy [--local]

The models are scripted: answers of realistic, varying length, counted as OpenAI counts. Each configuration is
run five times, and looked ahead at twice: told how long answers usually are, and with the usual guess.
`--local` adds two runs of the embedded default model, which is prepared first.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from pydantic import PrivateAttr

from benchmarks.machine import in_a_line, machine
from llama_index.packs.mixture_of_agents.app.ordering import Order, pack_for
from llama_index.packs.mixture_of_agents.app.planning import Guess, forecast_of
from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.finishes import Sequential, Vote
from llama_index.packs.mixture_of_agents.prompts import RANK, WRITE_ROLES
from llama_index.packs.mixture_of_agents.records.forecast import Forecast, forecast
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.records.spending.counting import counted, counted_text
from llama_index.packs.mixture_of_agents.results import Usage
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

QUESTION = (
    "We are a team of four and deploy twice a week with a shell script that nobody likes to touch. Should we "
    "write our own deployment tool, buy one, or tidy up the script? Give reasons, and name what would change "
    "your mind."
)
TYPICAL = {"a": 250, "b": 400, "c": 600, "g": 350}
"""Tokens of an answer, by model; single answers are up to a third shorter or longer."""
PRICES = {
    "a": {"input": 0.15, "output": 0.6},
    "b": {"input": 0.5, "output": 2.0},
    "c": {"input": 2.0, "output": 8.0},
    "g": {"input": 2.5, "output": 10.0},
}
_TEXT = (
    "the team a script tool deploys twice and every week because somebody has to keep it running when its "
    "author leaves, which costs more than a licence; tidying up is cheap, however, and shows what is really "
    "needed. Measure first how often deployments fail, how long a rollback takes and who is woken up by it."
)
_WORDS = _TEXT.split()
_ROLE = {
    "name": "a cautious release engineer",
    "perspective": "You look first at what happens when a deployment fails at night.",
    "instructions": "Name the failure that matters most and weigh every choice by how it handles that one.",
}


class TalkingLLM(ScriptedLLM):
    """A scripted model that answers at length, chooses, and writes roles; it counts what it was charged.

    Args:
        model: Its name.
        seed: Of its lengths.
    """

    _chance: random.Random = PrivateAttr()
    _used: list[tuple[int, int]] = PrivateAttr(default_factory=list)

    def __init__(self, model: str, seed: int) -> None:
        super().__init__("unused", model=model, num_output=2_000)
        self._chance = random.Random(f"{seed} {model}")

    @property
    def used(self) -> list[tuple[int, int]]:
        """Tokens read and written, call by call."""
        return self._used

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The next answer, as long as its kind of call asks for."""
        await asyncio.sleep(0)
        text = self._text("\n".join(message.content or "" for message in messages))
        self._used.append((counted(messages), counted_text(text)))
        usage = dict(zip(("prompt_tokens", "completion_tokens"), self._used[-1], strict=True))
        return ChatResponse(message=ChatMessage(role="assistant", content=text), raw={"usage": usage})

    def _text(self, asked: str) -> str:
        if WRITE_ROLES in asked:
            return json.dumps({"roles": [_ROLE] * int(asked.split("Write exactly ")[1].split()[0])})
        if RANK in asked:
            return json.dumps({"choice": 1, "reason": f"It {' '.join(self._chance.choices(_WORDS, k=30))}."})
        wanted = TYPICAL[self.model] * self._chance.uniform(2 / 3, 4 / 3)
        text = " ".join(self._chance.choices(_WORDS, k=int(wanted)))
        return text[: int(len(text) * wanted / counted_text(text))]


@dataclass(frozen=True)
class Configuration:
    """One mixture.

    Attributes:
        name: What a table calls it.
        proposers: Its models.
        options: Of the pack.
    """

    name: str
    proposers: str = "abc"
    options: Mapping[str, Any] = field(default_factory=dict)

    def pack(self, models: Mapping[str, ScriptedLLM]) -> MixtureOfAgentsPack:
        """The pack, with these models in it."""
        proposers = [models[name] for name in self.proposers]
        return MixtureOfAgentsPack(models["g"], proposers, prices=PRICES, **self.options)


CONFIGURATIONS = (
    Configuration("aggregator alone", options={"num_layers": 1}),
    Configuration("two layers", options={"num_layers": 2}),
    Configuration("three layers"),
    Configuration("five layers, two proposers", "ab", {"num_layers": 5}),
    Configuration("one model against itself", "a", {"strategy": "self", "nb_models_by_layer": 6}),
    Configuration("temperatures, vote", "b", {"strategy": "temperature", "finish": Vote("text")}),
    Configuration("roles written in each layer", options={"strategy": "role", "roles": "layer"}),
    Configuration("condensed between layers", options={"num_layers": 4, "pass_on": "condensed"}),
    Configuration("sequential, window of 2", "abcab", {"num_layers": 2, "finish": Sequential(2)}),
    Configuration("rank", options={"finish": "rank"}),
)


@dataclass(frozen=True)
class Accuracy:
    """A plan and the run.

    Attributes:
        name: Of the configuration.
        planned_calls: As the plan says.
        calls: As many were made.
        planned_tokens: With lengths told.
        guessed_tokens: With the usual guess.
        tokens: As many were read and written.
        planned_usd: With lengths told; None for an unknown price.
        usd: As it cost.
    """

    name: str
    planned_calls: int
    calls: int
    planned_tokens: int
    guessed_tokens: int
    tokens: int
    planned_usd: float | None
    usd: float | None

    @property
    def error_of_calls(self) -> float:
        """Relative."""
        return _error(self.planned_calls, self.calls)

    @property
    def error_of_tokens(self) -> float:
        """Relative, with lengths told."""
        return _error(self.planned_tokens, self.tokens)


def _error(planned: float, real: float) -> float:
    return (planned - real) / real if real else 0.0


def measure(configuration: Configuration, runs: int = 5) -> Accuracy:
    """Plan a configuration, then run it several times; all figures are of all runs together."""
    messages, prices = [ChatMessage(role="user", content=QUESTION)], Prices(PRICES)
    facts = configuration.pack(_models(0)).workflow.mixture.facts
    told, guessed = (forecast(facts, messages, prices, lengths) for lengths in (TYPICAL, None))
    used, costs = [], []
    for seed in range(runs):
        models = _models(seed)
        costs.append(configuration.pack(models).run(QUESTION).usage)
        used += [pair for model in models.values() for pair in model.used]
    return Accuracy(
        configuration.name,
        runs * len(told.calls),
        len(used),
        runs * _tokens(told),
        runs * _tokens(guessed),
        sum(map(sum, used)),
        None if told.usage.cost_usd is None else runs * told.usage.cost_usd,
        Usage.total(costs).cost_usd,
    )


def _models(seed: int) -> dict[str, TalkingLLM]:
    return {name: TalkingLLM(name, seed) for name in TYPICAL}


def measure_local(name: str, options: Mapping[str, Any]) -> Accuracy:
    """The same with the embedded default model, whose answers end where they end."""
    pack = pack_for(Order(options=options, seed=1))
    messages = [ChatMessage(role="user", content=QUESTION)]
    told, guessed = forecast_of(pack, messages, Guess(answer_tokens=150)), forecast_of(pack, messages)
    response = pack.run(QUESTION)
    used = response.usage
    tokens = (used.prompt_tokens or 0) + (used.completion_tokens or 0)
    calls = len(response.proposals) + 1
    return Accuracy(
        name,
        len(told.calls),
        calls,
        _tokens(told),
        _tokens(guessed),
        tokens,
        told.usage.cost_usd,
        used.cost_usd,
    )


def _tokens(told: Forecast) -> int:
    return (told.usage.prompt_tokens or 0) + (told.usage.completion_tokens or 0)


_COLUMNS: Sequence[tuple[str, Callable[[Accuracy], str]]] = (
    ("configuration", lambda one: one.name),
    ("calls planned", lambda one: f"{one.planned_calls}"),
    ("made", lambda one: f"{one.calls}"),
    ("tokens planned", lambda one: f"{one.planned_tokens:,}"),
    ("used", lambda one: f"{one.tokens:,}"),
    ("error", lambda one: f"{one.error_of_tokens:+.1%}"),
    ("error of the usual guess", lambda one: f"{_error(one.guessed_tokens, one.tokens):+.1%}"),
    ("USD planned", lambda one: _usd(one.planned_usd)),
    ("cost", lambda one: _usd(one.usd)),
)


def _usd(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:.5f}"


def table(measured: Sequence[Accuracy]) -> str:
    """What was measured as a Markdown table."""
    head = f"| {' | '.join(name for name, _ in _COLUMNS)} |\n|---|{'---:|' * (len(_COLUMNS) - 1)}"
    rows = [f"| {' | '.join(cell(one) for _, cell in _COLUMNS)} |" for one in measured]
    return "\n".join([head, *rows])


def main() -> None:
    """Measure and print."""
    measured = [measure(configuration) for configuration in CONFIGURATIONS]
    if "--local" in sys.argv[1:]:
        print(in_a_line(machine()), flush=True)
        measured.append(measure_local("embedded default, two layers", {"num_layers": 2}))
        measured.append(measure_local("embedded default, three layers", {}))
    print(table(measured))


if __name__ == "__main__":
    main()
