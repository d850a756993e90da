"""What a question would take, before it is asked: a table for a terminal, or JSON. No model is called.

It knows the pack and what `records.forecast` reckons of it, and nothing of options of a command line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.app.gate_plan import GatePlan, gate_plan, in_steps, remarks
from llama_index.packs.mixture_of_agents.app.ordering import Order, pack_for
from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, ModelIdentity, SeatFacts
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.records.budget import Budget
from llama_index.packs.mixture_of_agents.records.forecast import Forecast, ForecastTotal, forecast
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.records.spending.ledger import dollars
from llama_index.packs.mixture_of_agents.runs.live_run import conversation

_STANDS_IN = "MockLLM"
_EMBEDDED = ModelIdentity(class_name="SparseMoELLM", model="the embedded default")


@dataclass(frozen=True)
class Guess:
    """What a plan is to go by; None for the usual.

    Attributes:
        answer_tokens: How long an answer is.
        tokens_per_second: How fast models write.
        latency: Seconds that a call takes.
    """

    answer_tokens: int | None = None
    tokens_per_second: float | None = None
    latency: float | None = None


def plan(question: str, order: Order, guess: Guess) -> None:
    """Print what a question would take, then whether its budget allows it.

    Raises:
        ConfigurationError: The mixture cannot work, or its budget would refuse the question.
    """
    messages = conversation(question, None)
    pack = pack_for(order, prepares=False)
    told, gated = forecast_of(pack, messages, guess), _gated(pack, messages, guess)
    if gated is not None:
        told = in_steps(told, gated, pack.workflow.mixture.num_layers - 1)
    show(told, as_json=order.as_json, gated=gated)
    check_budgets(pack, messages)


def forecast_of(
    pack: MixtureOfAgentsPack, messages: Sequence[ChatMessage], guess: Guess | None = None
) -> Forecast:
    """What a pack would take to answer.

    Args:
        pack: The pack; it is not asked.
        messages: The question.
        guess: What to go by.
    """
    return _forecast(_facts(pack), pack, messages, guess or Guess())


def _forecast(
    facts: MixtureFacts, pack: MixtureOfAgentsPack, messages: Sequence[ChatMessage], guess: Guess
) -> Forecast:
    return forecast(
        facts,
        messages,
        _prices(pack),
        guess.answer_tokens,
        latencies=guess.latency,
        tokens_per_second=guess.tokens_per_second,
    )


def _gated(pack: MixtureOfAgentsPack, messages: Sequence[ChatMessage], guess: Guess) -> GatePlan | None:
    """What the gate of a pack may spare; None without one."""
    gate = pack.workflow.mixture.gate
    if gate is None:
        return None
    return gate_plan(gate, _facts(pack), messages, lambda facts: _forecast(facts, pack, messages, guess))


def check_budgets(pack: MixtureOfAgentsPack, messages: Sequence[ChatMessage]) -> None:
    """Put the question to each budget of a pack, as a run would.

    Raises:
        ConfigurationError: One of them would refuse it.
    """
    start = RunStart("plan", messages, _facts(pack), _prices(pack))
    for policy in pack.workflow.mixture.policies:
        if isinstance(policy, Budget):
            policy.would_take(start)


def show(told: Forecast, *, as_json: bool, gated: GatePlan | None = None) -> None:
    """Print a forecast on standard output; `gated` is what a gate may spare of it."""
    if as_json:
        spared = {} if gated is None else {"gate": gated.model_dump(mode="json")}
        document = json.dumps({**told.model_dump(mode="json"), **spared}, indent=2)
        sys.stdout.write(f"{document}\n")
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_table("Stage", told.stages, told))
    if len(told.models) > 1:
        console.print(_table("Model", told.models, told))
    for line in _remarks(told, gated):
        console.print(line, markup=False, soft_wrap=True)


def _facts(pack: MixtureOfAgentsPack) -> MixtureFacts:
    """The mixture; the model that stands in for the embedded default named as what it stands for."""
    facts = pack.workflow.mixture.facts
    writer = facts.role_writer
    return facts.model_copy(
        update={
            "layers": [[_embedded(seat) for seat in layer] for layer in facts.layers],
            "aggregator": _embedded(facts.aggregator),
            "role_writer": None if writer is None else _embedded(writer),
        }
    )


def _embedded(seat: SeatFacts) -> SeatFacts:
    stands_in = seat.identity.class_name == _STANDS_IN
    # What the stand-in says of its window is not the model's.
    return seat.model_copy(update={"identity": _EMBEDDED, "context_window": 8192}) if stands_in else seat


def _prices(pack: MixtureOfAgentsPack) -> Prices:
    meter = pack.workflow.mixture.meter
    return meter if isinstance(meter, Prices) else Prices()


def _table(first: str, totals: Sequence[ForecastTotal], told: Forecast) -> Any:
    from rich.table import Table

    table = Table(show_footer=True)
    sums = (len(told.calls), told.usage.prompt_tokens, told.usage.completion_tokens)
    table.add_column(first, footer="in all")
    for name, number in zip(("calls", "tokens read", "tokens written"), sums, strict=True):
        table.add_column(name, footer=f"{number:,}", justify="right")
    table.add_column("USD", footer=_usd(told.usage.cost_usd), justify="right")
    for total in totals:
        usage = total.usage
        counts = (total.calls, usage.prompt_tokens, usage.completion_tokens)
        table.add_row(total.name, *(f"{count:,}" for count in counts), _usd(usage.cost_usd))
    return table


def _usd(cost: float | None) -> str:
    return "unknown" if cost is None else dollars(cost)


def _remarks(told: Forecast, gated: GatePlan | None) -> list[str]:
    """What a table has no place for."""
    seconds = "" if told.seconds is None else f", about {told.seconds:.0f} s"
    calls = f"{told.chain} call{'s' if told.chain > 1 else ''}"
    lines = [f"Longest chain: {calls} one after another{seconds}."]
    if told.most_tokens is not None:
        usd = "" if told.most_usd is None else f" and {dollars(told.most_usd)}"
        lines.append(
            f"At most, if answers are as long as they may be: {told.most_tokens:,} tokens{usd}; "
            "--max-tokens shortens them."
        )
    if told.without_price:
        lines.append(f"No price is known for {', '.join(told.without_price)}.")
    if gated is not None:
        lines += remarks(gated, dollars)
        return [*lines, "Tokens are estimates, by the length of answers."]
    return [*lines, "Calls are exact unless one fails; tokens are estimates, by the length of answers."]
