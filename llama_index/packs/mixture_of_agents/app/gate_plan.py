"""What a gate makes of a plan: everyone asked is the most there can be, those it asks first the least.

No model is called; a gate that reads what questions mean has this one embedded on this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel, ConfigDict

from llama_index.packs.mixture_of_agents.facts import MixtureFacts, SeatFacts
from llama_index.packs.mixture_of_agents.gate.capped_gate import CappedGate
from llama_index.packs.mixture_of_agents.gate.online import OnlineGate
from llama_index.packs.mixture_of_agents.gate.protocol import Gate
from llama_index.packs.mixture_of_agents.records.forecast import Forecast

_AT_ONCE = ("rules", "neighbours", "network")
"""Gates that read the question alone, and so decide once in a round."""


class GatePlan(BaseModel):
    """What a gate may spare.

    Attributes:
        kind: Of the gate.
        first: Whom it asks first in round 1, for this very question.
        steps: How often at most it asks in one round, one step after another.
        least_calls: Calls where those whom it asks first are enough in every round.
        least_tokens: Tokens read and written then.
        least_usd: US dollars then; None where a price is unknown.
        dearest: Whom it was made to ask seldom; None where it was not trained.
        share_of_dearest: The share of new questions that training expects to reach that one.
        cases: Of how many questions it was made.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    first: list[str]
    steps: int
    least_calls: int
    least_tokens: int
    least_usd: float | None = None
    dearest: str | None = None
    share_of_dearest: float | None = None
    cases: int | None = None


def gate_plan(
    gate: Gate,
    facts: MixtureFacts,
    messages: Sequence[ChatMessage],
    forecast: Callable[[MixtureFacts], Forecast],
) -> GatePlan | None:
    """What a gate may spare of a question; None where no round of proposers is gated.

    Args:
        gate: The gate; it is asked whom it would ask first.
        facts: The mixture.
        messages: The question.
        forecast: Reckons what a mixture takes.
    """
    if not facts.layers:
        return None
    deciding = gate.inner if isinstance(gate, CappedGate) else gate
    inner = deciding.inner if isinstance(deciding, OnlineGate) else deciding
    firsts = asyncio.run(_firsts(deciding, facts.layers, messages))
    layers = [
        [seat for seat in layer if seat.name in first]
        for layer, first in zip(facts.layers, firsts, strict=True)
    ]
    least = forecast(facts.model_copy(update={"layers": layers}))
    return GatePlan(
        kind=inner.name,
        first=list(firsts[0]),
        steps=_steps(inner, facts.layers),
        least_calls=len(least.calls),
        least_tokens=(least.usage.prompt_tokens or 0) + (least.usage.completion_tokens or 0),
        least_usd=least.usage.cost_usd,
        **_trained(inner),
    )


def remarks(plan: GatePlan, usd: Callable[[float], str]) -> list[str]:
    """The same in words.

    Args:
        plan: What it may spare.
        usd: An amount in words.
    """
    whom = ", ".join(plan.first) or "nobody"
    price = "" if plan.least_usd is None else f", {usd(plan.least_usd)}"
    told = [
        f"With the gate ({plan.kind}) this is the most: everyone is asked in every round.",
        f"At least, where those it asks first ({whom}) are enough: {plan.least_calls} "
        f"call{'s' if plan.least_calls != 1 else ''}, {plan.least_tokens:,} tokens{price}.",
    ]
    if plan.share_of_dearest is not None:
        told.append(
            f"Training on {plan.cases} questions expects {plan.dearest} to be asked for "
            f"{plan.share_of_dearest:.1%} of questions like those."
        )
    return told


def in_steps(told: Forecast, plan: GatePlan, rounds: int) -> Forecast:
    """A forecast whose rounds take as many steps as the gate may take."""
    chain = told.chain + (plan.steps - 1) * rounds
    seconds = None if told.seconds is None else told.seconds * chain / told.chain
    return told.model_copy(update={"chain": chain, "seconds": seconds})


async def _firsts(
    gate: Gate, layers: Sequence[Sequence[SeatFacts]], messages: Sequence[ChatMessage]
) -> list[tuple[str, ...]]:
    return [(await gate.decide(messages, layer, [])).ask for layer in layers]


def _steps(gate: Gate, layers: Sequence[Sequence[SeatFacts]]) -> int:
    if gate.name in _AT_ONCE:
        return 1
    groups = gate.described().get("groups")
    return len(groups) if groups else max(map(len, layers))


def _trained(gate: Any) -> dict[str, Any]:
    facts, models = getattr(gate, "facts", {}), getattr(gate, "models", ())
    if "share_of_dearest" not in facts or not models:
        return {}
    return {
        "dearest": models[-1],
        "share_of_dearest": facts["share_of_dearest"],
        "cases": facts.get("cases"),
    }
