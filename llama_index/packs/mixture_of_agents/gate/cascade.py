"""The cascade: a cheap few are asked first, and the dear ones only where the answers leave doubt.

After each group the jury says how likely the present answer is right. At the threshold that is enough, below
it the next group is asked (FrugalGPT, arXiv 2305.05176, with answers of several models in place of one). How
it is trained is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.ballots import Panel
from llama_index.packs.mixture_of_agents.gate.calibration import Platt
from llama_index.packs.mixture_of_agents.gate.jury import Finding, Jury
from llama_index.packs.mixture_of_agents.gate.order import check_fit
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision, question_of
from llama_index.packs.mixture_of_agents.results import Decision, Proposal


@dataclass(frozen=True)
class CascadeGate:
    """A trained cascade.

    Attributes:
        groups: Who is asked together, the cheapest first.
        jury: Weighs answers.
        scales: For each group but the last, what makes the jury's confidence mean what it says.
        threshold: The confidence that is enough.
        accuracies: How often each model is right.
        facts: What training found, as JSON.
    """

    groups: Sequence[Panel]
    jury: Jury
    scales: Sequence[Platt]
    threshold: float
    accuracies: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)
    name: str = "cascade"

    @property
    def models(self) -> Panel:
        """Everyone it was made for, in the order they are asked."""
        return tuple(name for group in self.groups for name in group)

    def described(self) -> dict[str, Any]:
        """Its kind and settings, as JSON."""
        return {
            "name": self.name,
            "groups": [list(group) for group in self.groups],
            "threshold": self.threshold,
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
        """The first group; then, while in doubt, the next of whom anyone may be asked.

        Raises:
            ConfigurationError: A candidate is none it was made for.
        """
        names = [seat.name for seat in candidates]
        check_fit(self.models, names)
        texts = _texts(proposals)
        return self.step(question_of(messages), names, texts)

    def step(self, question: str, names: Sequence[str], texts: Mapping[str, str]) -> GateDecision:
        """The same of plain values; `texts` holds who answered."""
        heard = self._heard(texts)
        later = [group for group in self.groups[heard:] if any(n in names and n not in texts for n in group)]
        following = tuple(n for n in later[0] if n in names and n not in texts) if later else ()
        if not texts:
            return GateDecision(
                ask=following, scores=self._priors(following), reason="nobody has answered yet"
            )
        finding = self.jury.finding(question, texts, self._panel(heard))
        sure = self.confidence(finding, heard)
        is_enough = sure is not None and sure >= self.threshold
        return GateDecision(
            ask=() if is_enough else following,
            scores=self._scores(finding, texts) | self._priors(following),
            confidence=sure,
            reason=_reason(finding, sure, self.threshold, bool(following)),
        )

    def confidence(self, finding: Finding | None, heard: int) -> float | None:
        """How likely the present answer is right; None where that cannot be told."""
        if finding is None or finding.answer is None:
            return None
        scale = self.scales[heard - 1] if 0 < heard <= len(self.scales) else Platt()
        sure = float(scale(finding.confidence))
        return sure if math.isfinite(sure) else None

    def weights(
        self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
    ) -> dict[str, float] | None:
        """Votes with which a count comes out as the jury does; None to count heads."""
        texts = _texts(proposals)
        return self.jury.weights(self._finding(question_of(messages), texts), texts)

    def verdict(self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]) -> Decision | None:
        """The answer most likely right; None without any."""
        found = self._finding(question_of(messages), _texts(proposals))
        return self.jury.verdict(found, proposals)

    def _finding(self, question: str, texts: Mapping[str, str]) -> Finding | None:
        return self.jury.finding(question, texts, self._panel(self._heard(texts)))

    def _heard(self, texts: Mapping[str, str]) -> int:
        """How many groups have answered: up to the last of which anyone did."""
        return max((i for i, group in enumerate(self.groups, 1) if any(n in texts for n in group)), default=0)

    def _panel(self, heard: int) -> Panel:
        return tuple(name for group in self.groups[:heard] for name in group)

    def _priors(self, names: Sequence[str]) -> dict[str, float]:
        return {name: self.accuracies.get(name, 0.0) for name in names}

    def _scores(self, finding: Finding | None, texts: Mapping[str, str]) -> dict[str, float]:
        if finding is None:
            return {}
        return {
            name: finding.chance(self.jury.reader.answer(text))
            for name, text in texts.items()
            if name in finding.panel
        }


def _texts(proposals: Sequence[Proposal]) -> dict[str, str]:
    """The latest text of everyone."""
    return {proposal.proposer: proposal.text for proposal in proposals}


def _reason(finding: Finding | None, sure: float | None, threshold: float, more: bool) -> str:
    if finding is None or sure is None:
        said = "no answer can be told from what is there"
    else:
        side = "reaches" if sure >= threshold else "is below"
        limit = f"{threshold:.3f}" if threshold <= 1 else "any limit"
        said = f"{finding.answer} is right with probability {sure:.3f}, which {side} {limit}"
        if sure >= threshold:
            return said
    return said if more else f"{said}; nobody is left to ask"
