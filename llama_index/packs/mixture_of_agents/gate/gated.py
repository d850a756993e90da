"""The network in front of the cascade: what the cheap few will hardly settle goes straight to the dearest.

That spares the cheap calls and the wait for them; what comes after is the cascade's. Training chooses how
many questions go straight so that most of those would have been escalated anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.ballots import Floats, Panel
from llama_index.packs.mixture_of_agents.gate.cascade import CascadeGate
from llama_index.packs.mixture_of_agents.gate.jury import Jury
from llama_index.packs.mixture_of_agents.gate.order import check_fit
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision, question_of
from llama_index.packs.mixture_of_agents.gate.risk import NEVER
from llama_index.packs.mixture_of_agents.gate.scoring_gate import ScoringGate, lead
from llama_index.packs.mixture_of_agents.results import Decision, Proposal

ESCALATED_ANYWAY = 0.8
"""Of the questions that go straight to the dearest, so many at least would have come to it."""
_FEWEST = 20


@dataclass(frozen=True)
class GatedCascade:
    """A network, then a cascade.

    Attributes:
        network: Scores the question.
        cascade: Does the rest.
        straight: A lead of the cheaper models below this sends a question straight to the dearest.
        facts: What training found, as JSON.
    """

    network: ScoringGate
    cascade: CascadeGate
    straight: float
    facts: dict[str, Any] = field(default_factory=dict)
    name: str = "gated"

    @property
    def models(self) -> Panel:
        """Everyone it was made for, in the order they are asked."""
        return self.cascade.models

    @property
    def jury(self) -> Jury:
        """Weighs answers."""
        return self.cascade.jury

    def described(self) -> dict[str, Any]:
        """Its kind and settings, as JSON."""
        return {**self.cascade.described(), "name": self.name, "straight": self.straight}

    def check(self, names: Sequence[str]) -> None:
        """Refuse, before any call, proposers it was not made for.

        Raises:
            ConfigurationError: A name is none it knows.
        """
        check_fit(self.models, names)

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        """The dearest at once where the question looks so; else as the cascade decides.

        Raises:
            ConfigurationError: A candidate is none it was made for.
        """
        names = [seat.name for seat in candidates]
        check_fit(self.models, names)
        texts = {proposal.proposer: proposal.text for proposal in proposals}
        question, dearest = question_of(messages), self.models[-1]
        if not texts and dearest in names:
            scores = self.network.scores(question)
            ahead = lead(list(scores.values()))
            if ahead < self.straight:
                reason = f"the question looks hard: the cheaper models trail {dearest} by {-ahead:.3f}"
                return GateDecision(ask=(dearest,), scores=scores, reason=reason)
        return self.cascade.step(question, names, texts)

    def weights(
        self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
    ) -> dict[str, float] | None:
        """The cascade's."""
        return self.cascade.weights(messages, proposals)

    def verdict(self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]) -> Decision | None:
        """The cascade's."""
        return self.cascade.verdict(messages, proposals)


def straight_below(leads: Floats, escalated: Any, least: float = ESCALATED_ANYWAY) -> float:
    """The highest lead below which at least that share of questions was escalated; NEVER for none.

    Where most are escalated, that share is more: a lead that tells nothing of who is would send all of them
    straight, and those who would not have been escalated take the place of those who should be.

    Args:
        leads: Of the cheaper models, by question.
        escalated: Whether the cascade came to the dearest.
        least: The share.
    """
    least = max(least, (1 + float(np.mean(escalated))) / 2)
    order = np.argsort(leads, kind="stable")
    shares = np.cumsum(escalated[order]) / np.arange(1, len(order) + 1)
    # A few at the end prove nothing.
    enough = np.flatnonzero((shares >= least) & (np.arange(len(order)) >= _FEWEST - 1))
    return float(leads[order[enough[-1]]]) if len(enough) else NEVER
