"""What a trained gate expected of answers that were given, and the same gate with its odds moved.

The numbers that online learning moves are offsets on log-odds that the gate has anyway (`calibration`), so
that moved by nothing it is the trained gate. It knows no outcomes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.gate.beliefs import EDGE, chance_moved
from llama_index.packs.mixture_of_agents.gate.calibration import Platt
from llama_index.packs.mixture_of_agents.gate.cascade import CascadeGate
from llama_index.packs.mixture_of_agents.gate.gated import GatedCascade
from llama_index.packs.mixture_of_agents.gate.outcomes import Key
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.scoring_gate import ScoringGate
from llama_index.packs.mixture_of_agents.results import Proposal

PROPOSER, STAGE = "proposer", "stage"
UNKNOWN = 0.5
"""What is expected of those of whom a gate says nothing."""


@dataclass(frozen=True)
class Expectation:
    """What a gate expected.

    Attributes:
        key: Of whom, or of which stage's vote.
        chance: To be right, as the trained gate saw it.
        answer: What was answered; None where no answer can be read.
        said_by: In whose text that stands as its answer; None where the gate reads it otherwise.
    """

    key: Key
    chance: float
    answer: str | None
    said_by: str | None


def reader_of(gate: Any, extract: str) -> Reader:
    """Reads answers as the gate does; for one that reads none, as `extract` says."""
    return gate.jury.reader if isinstance(gate, CascadeGate | GatedCascade | ScoringGate) else Reader(extract)


def expectations(
    gate: Any, question: str, proposals: Sequence[Proposal], reader: Reader
) -> Iterator[Expectation]:
    """What a gate expected of each answer, and of each stage's vote.

    Args:
        gate: The trained gate, or one of the caller's own.
        question: What was asked.
        proposals: Answers that were given, and no others.
        reader: Of `reader_of`.
    """
    texts = {proposal.proposer: proposal.text for proposal in proposals}
    chances = _chances(gate, question, texts)
    for name, text in texts.items():
        answer = _answer(gate, question, name, text, reader)
        chance = min(max(chances.get(name, UNKNOWN), EDGE), 1 - EDGE)
        said = name if answer == reader.answer(text) else None
        yield Expectation((PROPOSER, name), chance, answer, said)
    cascade = gate.cascade if isinstance(gate, GatedCascade) else gate
    if isinstance(cascade, CascadeGate):
        yield from _stages(cascade, question, proposals)


def moved(gate: Any, shifts: Mapping[Key, float]) -> Any:
    """The gate with its log-odds moved; one of another kind as it is."""
    if isinstance(gate, GatedCascade):
        return replace(gate, network=moved(gate.network, shifts), cascade=moved(gate.cascade, shifts))
    if isinstance(gate, ScoringGate):
        scales = [
            _moved(scale, shifts.get((PROPOSER, name), 0.0))
            for name, scale in zip(gate.models, gate.scorer.scales, strict=True)
        ]
        return replace(gate, scorer=replace(gate.scorer, scales=scales))
    if isinstance(gate, CascadeGate):
        scales = [
            _moved(scale, shifts.get((STAGE, str(number)), 0.0))
            for number, scale in enumerate(gate.scales, 1)
        ]
        accuracies = {
            name: chance_moved(accuracy, shifts.get((PROPOSER, name), 0.0))
            for name, accuracy in gate.accuracies.items()
        }
        return replace(gate, scales=scales, accuracies=accuracies)
    return gate


def _moved(scale: Platt, shift: float) -> Platt:
    return Platt(scale.slope, scale.offset + shift)


def _chances(gate: Any, question: str, texts: Mapping[str, str]) -> Mapping[str, float]:
    if isinstance(gate, GatedCascade):
        return gate.network.scores(question)
    if isinstance(gate, ScoringGate):
        return gate.scores(question)
    if isinstance(gate, CascadeGate):
        return {**gate.accuracies, **gate.step(question, gate.models, texts).scores}
    return {}


def _answer(gate: Any, question: str, name: str, text: str, reader: Reader) -> str | None:
    if isinstance(gate, GatedCascade):
        return gate.network.answer_of(question, name, text)
    return gate.answer_of(question, name, text) if isinstance(gate, ScoringGate) else reader.answer(text)


def _stages(gate: CascadeGate, question: str, proposals: Sequence[Proposal]) -> Iterator[Expectation]:
    """Of each group after which it might have been enough, what the vote so far came to."""
    asked = [ChatMessage(role=MessageRole.USER, content=question)]
    for number in range(1, len(gate.scales) + 1):
        heard = [p for p in proposals if any(p.proposer in group for group in gate.groups[:number])]
        if not any(p.proposer in gate.groups[number - 1] for p in heard):
            continue
        sure = gate.step(question, gate.models, {p.proposer: p.text for p in heard}).confidence
        verdict = gate.verdict(asked, heard)
        if sure is not None and verdict is not None:
            yield Expectation((STAGE, str(number)), sure, verdict.answer, None)
