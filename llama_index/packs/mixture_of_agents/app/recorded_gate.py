"""How a recorded run was gated, as a gate that a mixture takes.

The gate itself is not in a record: what it decided is, and stands for it where the answers are the same. It
asks nobody and learns nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.records.replaying.recording import Company, Recording
from llama_index.packs.mixture_of_agents.results import Decision, Proposal, Routing

_Answers = frozenset[tuple[str, str]]


def recorded_gate(recording: Recording, company: Company) -> RecordedGate | None:
    """The gate that a run had; None where it asked everyone."""
    return None if recording.mixture.gate is None else RecordedGate(recording, company)


class RecordedGate:
    """Decides as it was decided; on answers that are new, it asks whomever the run asked.

    It has to stand among the policies of its mixture, too, to know one run from another.

    Args:
        recording: The run.
        company: Who takes part now.
    """

    def __init__(self, recording: Recording, company: Company) -> None:
        self._called = company.called
        self._facts = dict(recording.mixture.gate or {})
        self._ended = recording.run.ended
        self._asked = list(dict.fromkeys(name for one in recording.run.routed for name in one.asked))
        self._decisions = _by_answers(recording)
        # Rounds begin alike, without an answer: decisions on the same answers come in their order.
        self._taken: ContextVar[Counter[_Answers]] = ContextVar("mixture_of_agents_recorded_gate")
        self._counted = _as_key(recording.run.last_proposals())

    @property
    def name(self) -> str:
        """The recorded gate's."""
        return str(self._facts.get("name", "recorded"))

    def described(self) -> dict[str, Any]:
        """The recorded gate's kind and settings."""
        return dict(self._facts)

    def for_run(self, start: RunStart) -> None:
        """A run begins; its decisions are counted in its own context."""
        self._taken.set(Counter())

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        """Whom the run asked with these answers there.

        Raises:
            MixtureError: The run ended before anyone was asked, with this error.
        """
        if not self._asked and self._ended is not None and self._ended.error is not None:
            raise MixtureError(self._ended.error.message)
        here = {seat.name for seat in candidates}
        was = self._decided(_as_key(proposals))
        ask = () if was is None else self._among(was.asked, here)
        if was is None or (was.asked and not ask):
            there = {proposal.proposer for proposal in proposals}
            return GateDecision(
                ask=self._among(self._asked, here - there),
                reason="nothing was decided of these, so all whom the run asked are asked",
            )
        return GateDecision(ask=ask, scores=was.scores, confidence=was.confidence, reason=was.reason)

    def _decided(self, answers: _Answers) -> Routing | None:
        """What was decided on these answers, the next time in this run; None for nothing."""
        taken, decisions = self._taken.get(), self._decisions.get(answers, [])
        taken[answers] += 1
        return decisions[taken[answers] - 1] if taken[answers] <= len(decisions) else None

    def _among(self, names: Sequence[str], here: set[str]) -> tuple[str, ...]:
        """Recorded proposers by what they are called now, as far as they are there."""
        return tuple(now for now in (self._called.get(name) for name in names) if now in here)

    def weights(
        self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
    ) -> dict[str, float] | None:
        """Nothing is known of them."""
        return None

    def verdict(self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]) -> Decision | None:
        """The run's own, where the answers are the run's; None to count heads."""
        return self._ended.decision if self._ended and _as_key(proposals) == self._counted else None


def _by_answers(recording: Recording) -> dict[_Answers, list[Routing]]:
    """Each decision by the answers it was made on: those of whom the round had asked before."""
    found: dict[_Answers, list[Routing]] = {}
    asked: dict[int, set[str]] = {}
    for routing in recording.run.routed:
        before = asked.setdefault(routing.layer, set())
        there = [one for one in recording.run.proposals(routing.layer) if one.proposer in before]
        found.setdefault(_as_key(there), []).append(routing)
        before.update(routing.asked)
    return found


def _as_key(proposals: Sequence[Proposal]) -> _Answers:
    return frozenset((proposal.proposer, as_reference(proposal.text)) for proposal in proposals)
