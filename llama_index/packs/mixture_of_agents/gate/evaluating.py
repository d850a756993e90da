"""How a gate does on recorded answers, beside what it has to beat.

The gate is played: it is shown the question, then the answers of those it asked, and no others. Every figure
has a 95 % interval: Wilson's for accuracies, the paired bootstrap for differences on the same questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from pydantic import BaseModel, ConfigDict

from llama_index.packs.mixture_of_agents.answers.voting import tally
from llama_index.packs.mixture_of_agents.facts import ModelIdentity, SeatFacts
from llama_index.packs.mixture_of_agents.gate.ballots import Case
from llama_index.packs.mixture_of_agents.gate.jury import Jury
from llama_index.packs.mixture_of_agents.gate.protocol import Gate
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.risk import paired_interval, wilson
from llama_index.packs.mixture_of_agents.gate.scoring_gate import vote_weight
from llama_index.packs.mixture_of_agents.results import Proposal

GATE = "gate"
_MOST_STEPS = 100


class Line(BaseModel):
    """One way to answer, measured.

    Attributes:
        name: What it is.
        accuracy: Share of questions answered right.
        interval: 95 % interval of that.
        share_of_dearest: Share of questions that the dearest model was asked.
        calls: For each model the share of questions it was asked.
        cost_usd: Mean cost of a question; None where a model that was asked has no known cost.
        lead: The gate's accuracy less this one's, on the same questions.
        lead_interval: 95 % interval of that.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    accuracy: float
    interval: tuple[float, float]
    share_of_dearest: float
    calls: dict[str, float]
    cost_usd: float | None = None
    lead: float = 0.0
    lead_interval: tuple[float, float] = (0.0, 0.0)


class Evaluation(BaseModel):
    """A gate and its rivals on the same questions.

    Attributes:
        cases: How many questions.
        dearest: The model whose calls are to be spared.
        gate: Its kind and settings.
        lines: The gate first.
    """

    model_config = ConfigDict(frozen=True)

    cases: int
    dearest: str
    gate: dict[str, Any]
    lines: list[Line]


@dataclass(frozen=True)
class Played:
    """What came of one question.

    Attributes:
        right: The answer was right.
        asked: Whose calls were placed, failed ones too.
    """

    right: bool
    asked: frozenset[str]


async def play(gate: Gate, case: Case, models: Sequence[str], reader: Reader) -> Played:
    """Let the gate ask until it has enough; then judge its answer.

    Args:
        gate: Any gate.
        case: The question; only answers of those asked are shown.
        models: Who may be asked.
        reader: What an answer is.
    """
    messages = [ChatMessage(role=MessageRole.USER, content=case.sample.question)]
    asked: list[str] = []
    for _ in range(_MOST_STEPS):
        able = [name for name in models if name not in asked or name in case.sample.responses]
        seats = [SeatFacts(name=name, identity=ModelIdentity(model=name)) for name in able]
        decision = await gate.decide(messages, seats, _proposals(case, asked))
        new = [name for name in decision.ask if name not in asked]
        if not new:
            break
        asked += new
    answer = _answer(gate, messages, _proposals(case, asked), reader)
    return Played(answer is not None and answer == case.truth, frozenset(asked))


def _proposals(case: Case, asked: Sequence[str]) -> list[Proposal]:
    given = case.sample.responses
    return [Proposal(proposer=name, layer=1, text=given[name]) for name in asked if name in given]


def _answer(
    gate: Gate, messages: Sequence[ChatMessage], proposals: Sequence[Proposal], reader: Reader
) -> str | None:
    if not proposals:
        return None
    verdict = getattr(gate, "verdict", None)
    decision = verdict(messages, proposals) if callable(verdict) else None
    if decision is not None:
        return str(decision.answer)
    answers = [(proposal.proposer, reader.answer(proposal.text)) for proposal in proposals]
    return tally(answers, gate.weights(messages, proposals)).answer


async def evaluated(
    gate: Gate,
    cases: Sequence[Case],
    models: Sequence[str],
    reader: Reader,
    *,
    costs: Mapping[str, float] | None = None,
    accuracies: Mapping[str, float] | None = None,
    jury: Jury | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure a gate.

    Args:
        gate: Any gate.
        cases: One at least.
        models: Who may be asked, the dearest last.
        reader: What an answer is.
        costs: US dollars for a call, by model.
        accuracies: Of each model, from training: for the weighted vote.
        jury: The gate's, for baselines that read texts as it does.
        seed: Of the bootstrap.
    """
    plays = {GATE: [await play(gate, case, models, reader) for case in cases]}
    plays |= baselines(cases, models, reader, accuracies, jury)
    lines = [_line(name, played, plays[GATE], models, costs or {}, seed) for name, played in plays.items()]
    return Evaluation(cases=len(cases), dearest=models[-1], gate=gate.described(), lines=lines)


def baselines(
    cases: Sequence[Case],
    models: Sequence[str],
    reader: Reader,
    accuracies: Mapping[str, float] | None = None,
    jury: Jury | None = None,
) -> dict[str, list[Played]]:
    """What a gate has to beat; the arguments are `evaluated`'s."""
    best = max(models, key=lambda name: sum(case.is_right(name) for case in cases))
    # Of answers with as many votes the best model's goes first, or the dearest's where nobody knows the best.
    known = accuracies or {}
    voters = sorted(models, key=lambda name: known.get(name, 0.0)) if known else models
    found = {
        f"best single ({best})": _each(cases, [best], lambda case: case.is_right(best)),
        "majority": _each(cases, models, lambda case: _voted(case, voters, None) == case.truth),
    }
    if accuracies:
        weights = {name: vote_weight(accuracies.get(name, 0.0)) for name in models}
        found["weighted vote"] = _each(
            cases, models, lambda case: _voted(case, voters, weights) == case.truth
        )
    if jury is not None:
        alone, everyone = (best,), tuple(models)
        found["best single, read by the jury"] = _each(
            cases, [best], lambda case: _judged(jury, case, alone) == case.truth
        )
        found["everyone, judged by the jury"] = _each(
            cases, models, lambda case: _judged(jury, case, everyone) == case.truth
        )
    found["oracle"] = _each(cases, models, lambda case: any(map(case.is_right, models)))
    if jury is not None:
        found["oracle of all readings"] = _each(cases, models, _has_reading)
    return found


def _each(cases: Sequence[Case], asked: Sequence[str], is_right: Callable[[Case], bool]) -> list[Played]:
    return [Played(is_right(case), frozenset(asked)) for case in cases]


def _voted(case: Case, models: Sequence[str], weights: Mapping[str, float] | None) -> str | None:
    answers = [(name, case.readings[name].answer) for name in models[::-1] if name in case.readings]
    return tally(answers, weights).answer if answers else None


def _judged(jury: Jury, case: Case, panel: Sequence[str]) -> str | None:
    readings = {name: case.readings[name] for name in panel if name in case.readings}
    found = jury.found(case.question, readings, tuple(panel))
    return found.answer if found is not None else None


def _has_reading(case: Case) -> bool:
    return any(case.truth in reading.all for reading in case.readings.values())


def _line(
    name: str,
    played: Sequence[Played],
    gate: Sequence[Played],
    models: Sequence[str],
    costs: Mapping[str, float],
    seed: int,
) -> Line:
    right = np.array([one.right for one in played], dtype=float)
    ahead = np.array([one.right for one in gate], dtype=float) - right
    calls = {model: float(np.mean([model in one.asked for one in played])) for model in models}
    is_known = all(model in costs for model, share in calls.items() if share)
    return Line(
        name=name,
        accuracy=float(right.mean()),
        interval=wilson(float(right.sum()), len(right)),
        share_of_dearest=calls[models[-1]],
        calls=calls,
        cost_usd=sum(share * costs[m] for m, share in calls.items() if share) if is_known else None,
        lead=float(ahead.mean()),
        lead_interval=paired_interval(ahead, seed),
    )
