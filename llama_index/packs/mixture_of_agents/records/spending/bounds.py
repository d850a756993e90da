"""The most a call can cost: its prompt by the bytes of it, its answer by the longest it may be.

A token is at least one byte, so the bytes of a prompt bound its tokens; a chat format's own are allowed for
(`counting.PROMPT_BOUND`), and so are the shapes that roles and choices are asked for in. What is not seen
here: the schemas of tools that a caller offers the aggregator, which are taken to have `TOOL_TOKENS` each,
and attempts that failed and were made again, which are taken as not charged. It knows prices and seats, and
nothing of what was spent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.facts import MixtureFacts, ModelIdentity, SeatFacts
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.records.spending.counting import (
    counted_text,
    has_attachments,
    prompt_bound,
    text_bound,
)
from llama_index.packs.mixture_of_agents.records.spending.course import PlannedCall
from llama_index.packs.mixture_of_agents.records.spending.ledger import Amount
from llama_index.packs.mixture_of_agents.results import Task, Usage

BYTES_PER_TOKEN = 4.0
"""What an answer that is not there yet is taken to have as a draft; English has 4 to 5. Once it is there,
its own bytes count."""
TOOL_TOKENS = 1_000
"""What the schema of a tool that a caller offers the aggregator is taken to have; it is not seen here."""
SHAPE_BOUND = 1_500
"""Tokens of the shape that roles or a choice are asked for in, at most: the bytes of its schema."""
UNKNOWN = Amount(math.inf, math.inf)


@dataclass(frozen=True)
class Bounds:
    """What calls of one mixture cost at most.

    Attributes:
        facts: The mixture.
        prices: What models cost.
        limit: What is limited at all; of the rest nothing is reckoned.
        margin: None to bound a text by its bytes, a factor to take so much more than counted.
    """

    facts: MixtureFacts
    prices: Prices
    limit: Amount
    margin: float | None = None

    @property
    def scale(self) -> float:
        """Size of a draft in a prompt, per token of the answer."""
        return BYTES_PER_TOKEN if self.margin is None else self.margin

    def prompt(self, messages: Sequence[ChatMessage]) -> int:
        """Tokens of the texts of a prompt."""
        return prompt_bound(messages, self.margin)

    def draft(self, text: str) -> int:
        """Tokens of a text within a prompt."""
        if self.margin is None:
            return text_bound(text)
        return min(text_bound(text), int(counted_text(text) * self.margin) + 1)

    def length(self, seat: SeatFacts, task: Task = "propose", wanted: int = 0) -> int:
        """Longest answer of a seat, in tokens; a number beyond all reason where nobody knows."""
        known = [n for n in (seat.longest_answer, seat.context_window) if n is not None and n > 0]
        return known[0] if known else 10**12

    def planned(self, call: PlannedCall, attached: bool = False) -> Amount:
        """The most a planned call costs."""
        reads = (seat_window(call.seat) if attached else call.reads) + _shape(call.task)
        return self._amount(call.seat.identity, reads, call.writes)

    def call(self, call: Call, longest: int | None = None) -> Amount:
        """The most a call costs, when its answer has at most `longest` tokens; None for as many as it may."""
        seat = self.seat(call)
        attached = has_attachments(call.messages)
        reads = (seat_window(seat) if attached else self.prompt(call.messages)) + _shape(call.task)
        reads += TOOL_TOKENS * len(call.tools)
        return self._amount(call.identity, reads, self.longest(call) if longest is None else longest)

    def longest(self, call: Call) -> int:
        """Longest answer of a call, in tokens."""
        return call.sampling.max_tokens or self.length(self.seat(call))

    def used(self, call: Call, text: str, usage: Usage) -> Amount:
        """What a call cost; the most it can have cost, as far as nobody says."""
        measured = self.prices.measured(call, text, usage)
        most = self.call(call)
        usd = most.usd if measured.cost_usd is None else measured.cost_usd
        counts = (measured.prompt_tokens, measured.completion_tokens)
        tokens = most.tokens if None in counts else sum(count or 0 for count in counts)
        return self._limited(Amount(usd, tokens))

    def seat(self, call: Call) -> SeatFacts:
        """Who is asked."""
        if call.task == "propose":
            return self.facts.layers[call.layer - 1][call.index]
        if call.task == "roles" and self.facts.role_writer is not None:
            return self.facts.role_writer
        stands_in = call.task in ("synthesize", "rank") and call.index > 0
        seats = (
            seat for layer in reversed(self.facts.layers) for seat in layer if seat.name == call.proposer
        )
        return next(seats, self.facts.aggregator) if stands_in else self.facts.aggregator

    def seats_without(self, attached: bool) -> Iterator[tuple[SeatFacts, str]]:
        """Seats of which nobody can tell what they cost at most, and what is missing."""
        for seat in self._asked():
            reads = seat_window(seat) if attached else 1
            amount = self._amount(seat.identity, 1, 1)
            if math.isinf(amount.usd):
                yield seat, "price"
            elif math.isinf(amount.tokens):
                yield seat, "tokens"
            elif math.isinf(reads) and self._counts(seat.identity):
                yield seat, "window"

    def _asked(self) -> list[SeatFacts]:
        """Everyone who is asked when nothing fails, each model once."""
        seats = [seat for layer in self.facts.layers for seat in layer]
        seats += [self.facts.role_writer] if self.facts.role_writer is not None else []
        votes = self.facts.finish.get("name") == "vote" and self.facts.pass_on != "condensed"
        seats += [] if votes and self.facts.layers else [self.facts.aggregator]
        return list({seat.identity: seat for seat in seats}.values())

    def _counts(self, identity: ModelIdentity) -> bool:
        """Whether it makes a difference how much this model reads and writes."""
        return self._amount(identity, 1000, 1000) != Amount()

    def _amount(self, identity: ModelIdentity, reads: float, writes: int) -> Amount:
        tokens = UNKNOWN.tokens if identity.is_agent else reads + writes
        if not math.isfinite(self.limit.usd):
            return self._limited(Amount(0.0, tokens))
        most = int(min(reads, 10**12))
        usd = self.prices.bound(identity, most, None if identity.is_agent else writes)
        return self._limited(Amount(UNKNOWN.usd if usd is None else usd, tokens))

    def _limited(self, amount: Amount) -> Amount:
        """The amount as far as it is limited."""
        return Amount(
            amount.usd if math.isfinite(self.limit.usd) else 0.0,
            amount.tokens if math.isfinite(self.limit.tokens) else 0,
        )


def seat_window(seat: SeatFacts) -> float:
    """The most a seat can read, in tokens: pictures and documents may fill its window."""
    return seat.context_window if seat.context_window and seat.context_window > 0 else math.inf


def _shape(task: Task) -> int:
    return SHAPE_BOUND if task in ("roles", "rank") else 0
