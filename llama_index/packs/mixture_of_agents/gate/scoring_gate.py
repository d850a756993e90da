"""A gate that reads the question alone: scores over models, then whom to ask, then a weighted vote.

The scores come from past runs (`neighbours`) or a gating network (`network`). The dearest model is asked
where it is likely right and the others are not; else the best few of the others are. How it is trained is
not known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.answers.voting import tally
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.ballots import Floats, Panel
from llama_index.packs.mixture_of_agents.gate.calibration import Platt
from llama_index.packs.mixture_of_agents.gate.jury import Jury
from llama_index.packs.mixture_of_agents.gate.neighbours import Neighbours
from llama_index.packs.mixture_of_agents.gate.network import GatingNetwork
from llama_index.packs.mixture_of_agents.gate.order import check_fit
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision, question_of
from llama_index.packs.mixture_of_agents.gate.question_features import QuestionFeatures
from llama_index.packs.mixture_of_agents.results import Decision, Proposal

TOP_K = 3
_EDGE = 0.01
_WRONG_WAYS = math.log(9)
"""A wrong answer can be wrong in many ways, so two that agree are worth more than two of a coin's sides."""


@dataclass(frozen=True)
class Scorer:
    """Probabilities that models are right, of a question alone.

    Attributes:
        features: Of questions.
        model: What was learned.
        scales: For each model, what makes its probabilities mean what they say.
    """

    features: QuestionFeatures
    model: Neighbours | GatingNetwork
    scales: Sequence[Platt]

    def chances(self, questions: Sequence[str]) -> Floats:
        """A row a question, a column a model."""
        return self.scaled(self.model.chances(self.features.rows(questions)))

    def scaled(self, raw: Floats) -> Floats:
        """The model's own probabilities, made to mean what they say."""
        return np.stack([scale(raw[:, column]) for column, scale in enumerate(self.scales)], axis=1)


@dataclass(frozen=True)
class ScoringGate:
    """A trained gate that reads the question alone.

    Attributes:
        name: "neighbours" or "network".
        models: Whom it was made for, the dearest last.
        scorer: Gives the scores.
        jury: Reads each answer; of panels, only models alone are used.
        threshold: How much better the others must do against the dearest for it to be left out: the best of
            their probabilities less the dearest's.
        top_k: How many of the others are asked where it is left out.
        facts: What training found, as JSON.
        embed: Name of the embedding model it was trained with; None for none.
    """

    name: str
    models: Panel
    scorer: Scorer
    jury: Jury
    threshold: float
    top_k: int = TOP_K
    facts: Mapping[str, Any] = field(default_factory=dict)
    embed: str | None = None

    def described(self) -> dict[str, Any]:
        """Its kind and settings, as JSON."""
        return {
            "name": self.name,
            "models": list(self.models),
            "threshold": self.threshold,
            "top_k": self.top_k,
            "embed": self.embed,
            "extract": self.jury.reader.extract,
        }

    def check(self, names: Sequence[str]) -> None:
        """Refuse, before any call, proposers it was not made for.

        Raises:
            ConfigurationError: A name is none it knows.
        """
        check_fit(self.models, names)

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        """The dearest, or the best few of the others; once anyone answered, that is enough.

        Raises:
            ConfigurationError: A candidate is none it was made for.
        """
        names = [seat.name for seat in candidates]
        check_fit(self.models, names)
        return self.step(question_of(messages), names, {p.proposer: p.text for p in proposals})

    def step(self, question: str, names: Sequence[str], texts: Mapping[str, str]) -> GateDecision:
        """The same of plain values; `texts` holds who answered."""
        scores = self.scores(question)
        if texts:
            return GateDecision(scores=scores, reason="this gate reads the question alone, and has chosen")
        able = [name for name in self.models if name in names]
        chosen = chosen_of([scores[n] for n in able], self._has_dearest(able), self.threshold, self.top_k)
        ask = tuple(able[place] for place in chosen)
        best = f"; {ask[0]} is likely right with probability {scores[ask[0]]:.3f}" if ask else ""
        return GateDecision(ask=ask, scores=scores, reason=f"chosen by the question alone{best}")

    def weights(
        self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
    ) -> dict[str, float] | None:
        """Log-odds of each one's being right on this question; None to count heads."""
        scores = self.scores(question_of(messages))
        return {
            p.proposer: vote_weight(scores[p.proposer]) for p in proposals if p.proposer in scores
        } or None

    def verdict(self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]) -> Decision | None:
        """The weighted vote over answers, each read as the jury reads that model."""
        question = question_of(messages)
        answers = [(p.proposer, self.answer_of(question, p.proposer, p.text)) for p in proposals]
        if not any(answer is not None for _, answer in answers):
            return None
        return tally(answers, self.weights(messages, proposals))

    def answer_of(self, question: str, name: str, text: str) -> str | None:
        """What a model's text means."""
        found = self.jury.finding(question, {name: text}, (name,))
        return found.answer if found is not None else self.jury.reader.answer(text)

    def scores(self, question: str) -> dict[str, float]:
        """Of each model, the dearest last, the probability to be right on a question."""
        chances = self.scorer.chances([question])[0]
        # Who has no probability that can be told is asked last, not first.
        return {n: float(c) if np.isfinite(c) else 0.0 for n, c in zip(self.models, chances, strict=True)}

    def _has_dearest(self, able: Sequence[str]) -> bool:
        return bool(able) and able[-1] == self.models[-1]


def chosen_of(scores: Sequence[float], has_dearest: bool, threshold: float, top_k: int) -> list[int]:
    """Places of those to ask, the best first: the dearest alone, or the best few of the others.

    Args:
        scores: By model, in the gate's order.
        has_dearest: The last of them is the dearest model.
        threshold: Of `lead`.
        top_k: How many of the others.
    """
    others = list(range(len(scores) - has_dearest))
    if not others or (has_dearest and lead(scores) < threshold):
        return [len(scores) - 1] if scores else []
    return sorted(others, key=lambda place: (-scores[place], place))[:top_k]


def lead(scores: Sequence[float]) -> float:
    """The best of the others' probabilities less the dearest's."""
    return max(scores[:-1], default=-1.0) - scores[-1]


def vote_weight(chance: float) -> float:
    """Log-odds of a vote, never below 0 (Nitzan and Paroush, International Economic Review, 1982)."""
    inside = min(max(chance, _EDGE), 1 - _EDGE)
    return max(0.0, math.log(inside / (1 - inside)) + _WRONG_WAYS)
