"""A gate that also looks who has room: scores -> top-k -> capacity -> overflow to the next best -> dispatch.

    capacity = Capacity({"OpenAI": Limits(in_flight=5, requests_per_minute=60)})
    gate = CappedGate(load_gate("gate/"), capacity)
    MixtureOfAgentsPack(llm, models, gate=gate, policies=[capacity])

It puts another gate's scores to use and has none of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from pydantic import Field

from llama_index.packs.mixture_of_agents.checks import has_methods, shown, whole_number
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureError
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
from llama_index.packs.mixture_of_agents.gate.dispatch import Dispatch, Ranking, dispatch, ranked
from llama_index.packs.mixture_of_agents.gate.protocol import Gate, GateDecision
from llama_index.packs.mixture_of_agents.gate.run_capacity import RunCapacity
from llama_index.packs.mixture_of_agents.results import Decision, Proposal


class CappedDecision(GateDecision):
    """Whom to ask now, of those who have room.

    Attributes:
        overflowed: Those who would have been asked, and had no room.
    """

    overflowed: tuple[str, ...] = Field(default=())


class CappedGate:
    """A gate whose choice overflows, where somebody has no room, to the next best who has.

    What it names has room held for it until the call comes, so that prompts that come at once do not all see
    the same room.

    Args:
        gate: Gives the scores.
        capacity: Knows who has room; the same object takes part in the run as `policies=[capacity]`.
        top_k: How many are asked; None for as many as the gate asks for.
        wait: Where nobody has room, wait for whoever has it first, at most the capacity's deadline; else do
            not wait.

    Raises:
        ConfigurationError: One of these is something else.
    """

    def __init__(self, gate: Gate, capacity: Capacity, top_k: int | None = None, wait: bool = True) -> None:
        if not has_methods(gate, "decide", "weights", "described"):
            raise ConfigurationError(
                f"gate must be a gate with decide(), weights() and described(); found {shown(gate)}."
            )
        if not isinstance(capacity, Capacity):
            raise ConfigurationError(f"capacity must be a Capacity; found {shown(capacity)}.")
        whole_number("top_k", top_k, 1, none="for as many as the gate asks for")
        self._gate, self._capacity, self._top_k, self._wait = gate, capacity, top_k, bool(wait)

    @property
    def name(self) -> str:
        """Its kind."""
        return "capped"

    @property
    def inner(self) -> Gate:
        """The gate that gives the scores."""
        return self._gate

    def described(self) -> dict[str, Any]:
        """Its kind and settings, as JSON; limits may change from one run to the next, and are not its own."""
        return {"name": self.name, "gate": self._gate.described(), "top_k": self._top_k, "wait": self._wait}

    def check(self, names: Sequence[str]) -> None:
        """The other gate's; nothing where it has none."""
        inner: Any = self._gate
        if has_methods(inner, "check"):
            inner.check(names)

    def weights(
        self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
    ) -> dict[str, float] | None:
        """The other gate's."""
        return self._gate.weights(messages, proposals)

    def verdict(self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]) -> Decision | None:
        """The other gate's; None where it gives none."""
        judge: Any = self._gate
        if not has_methods(judge, "verdict"):
            return None
        decision: Decision | None = judge.verdict(messages, proposals)
        return decision

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        """Whom to ask next, of those who have room.

        Raises:
            ConfigurationError: The gate was made for others, or the capacity takes no part in this run.
            MixtureError: Nobody has room, and nobody has answered yet.
        """
        part = self._capacity.part()
        part.give_back_claims()
        decision = await self._gate.decide(messages, candidates, proposals)
        seats = {seat.name: seat for seat in candidates}
        if not decision.ask or any(name not in seats for name in decision.ask):
            return decision  # enough; or names nobody knows, which whoever asks refuses
        done = {proposal.proposer for proposal in proposals} | part.tried
        if all(name in done for name in decision.ask):
            return decision
        ranking = ranked(decision, list(seats), done, self._top_k)
        placed = dispatch(ranking, lambda name: part.claim(seats[name], messages))
        waited = ""
        if not placed.asked:
            placed, waited = await self._waited(
                part, [seats[name] for name in ranking.names], placed, messages
            )
        if not placed.asked and not proposals:
            raise MixtureError(_nobody(placed, waited))
        return _decision(decision, ranking, placed, waited)

    async def _waited(
        self, part: RunCapacity, best: Sequence[SeatFacts], placed: Dispatch, messages: Sequence[ChatMessage]
    ) -> tuple[Dispatch, str]:
        """Whoever has room first, waited for, the best first; and what came of it, in words."""
        able = [seat for seat in best if part.may_ever(seat, messages)]
        if not able:
            return placed, "waiting would not help"
        if not self._wait:
            return placed, "it does not wait"
        # To wait for several would hold as much money as they cost together.
        able = [able[0], *(seat for seat in able[1:] if not part.counts_money(seat))]
        name, whys = await part.await_claim(able, messages)
        if not name:
            all_waited = ", ".join(f"{who} was waited for: {why}" for who, why in whys.items())
            return placed, all_waited
        others = {other: said for other, said in placed.overflowed.items() if other != name}
        stand_ins = () if name in placed.overflowed else (name,)
        return Dispatch((name,), others, stand_ins), f"{name} was waited for"


def _decision(decision: GateDecision, ranking: Ranking, placed: Dispatch, waited: str) -> CappedDecision:
    unusable = ", ".join(ranking.unusable)
    last = f"no usable score, so ranked last: {unusable}" if unusable else ""
    enough = "" if placed.asked else "the answers that are there have to do"
    said = [decision.reason, last, placed.reason(), waited, enough]
    return CappedDecision(
        ask=placed.asked,
        scores={name: score for name, score in decision.scores.items() if math.isfinite(score)},
        confidence=decision.confidence,
        reason="; ".join(part for part in said if part),
        overflowed=tuple(placed.overflowed),
    )


def _nobody(placed: Dispatch, waited: str) -> str:
    full = "; ".join(f"{name}: {why}" for name, why in placed.overflowed.items())
    return (
        f"No proposer has room for this question ({waited}). {full}. Raise their Limits or the Capacity's "
        "deadline, ask fewer questions at a time, or add proposers."
    )
