"""Gates that read the question alone, learned from recorded answers.

Scores, scales and threshold come from cross-fitting, as a cascade's do. What texts mean is the jury's part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llama_index.packs.mixture_of_agents.answers.voting import tally
from llama_index.packs.mixture_of_agents.gate.ballots import Case, Floats, Panel
from llama_index.packs.mixture_of_agents.gate.calibration import Platt, calibration_error
from llama_index.packs.mixture_of_agents.gate.cascade_training import jury_of
from llama_index.packs.mixture_of_agents.gate.folds import cross_fitted, parted
from llama_index.packs.mixture_of_agents.gate.jury import Jury
from llama_index.packs.mixture_of_agents.gate.neighbours import Neighbours
from llama_index.packs.mixture_of_agents.gate.network import GatingNetwork
from llama_index.packs.mixture_of_agents.gate.order import Order
from llama_index.packs.mixture_of_agents.gate.question_features import QuestionFeatures
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.scoring_gate import (
    TOP_K,
    Scorer,
    ScoringGate,
    chosen_of,
    lead,
    vote_weight,
)
from llama_index.packs.mixture_of_agents.gate.targets import Target

_Learn = Callable[[Floats, Floats, int], Neighbours | GatingNetwork]
_Answers = dict[str, str | None]


def train_scoring(
    kind: str,
    cases: Sequence[Case],
    order: Order,
    reader: Reader,
    target: Target,
    features: QuestionFeatures,
    *,
    seed: int = 0,
    top_k: int = TOP_K,
    embed: str | None = None,
) -> ScoringGate:
    """Learn a gate that reads the question alone.

    Args:
        kind: "neighbours" or "network".
        cases: Questions with answers.
        order: The models.
        reader: What an answer is.
        target: What the threshold is to keep to.
        features: Of questions.
        seed: Of the folds, and of the network's beginning.
        top_k: How many of the cheaper models are asked where the dearest is left out.
        embed: Name of the embedding model in `features`.

    Raises:
        MissingExtraError: The network needs torch, and it is not installed.
    """
    scored = scored_by(kind, cases, order, reader, features, seed)
    outcomes = _outcomes(cases, order.models, scored.chances, scored.meant, top_k)
    losses = (outcomes[:, 2] & ~outcomes[:, 0]).astype(float)[:, None]
    threshold = target.threshold(scored.leads[:, None], losses)
    expected = _facts(scored.leads >= threshold, outcomes, scored, order.models)
    return ScoringGate(
        name=kind,
        models=order.models,
        scorer=scored.scorer,
        jury=jury_of(cases, [(name,) for name in order.models], reader),
        threshold=threshold,
        top_k=top_k,
        facts=order.facts() | expected,
        embed=embed,
    )


@dataclass(frozen=True)
class Scored:
    """Scores of cases by models that were not trained on them.

    Attributes:
        scorer: Trained on all cases.
        chances: A row a case, a column a model.
        leads: Of the cheaper models over the dearest, by case.
        meant: What each text means, by case.
        right: Whether that is right; NaN for not asked.
    """

    scorer: Scorer
    chances: Floats
    leads: Floats
    meant: list[_Answers]
    right: Floats


def scored_by(
    kind: str, cases: Sequence[Case], order: Order, reader: Reader, features: QuestionFeatures, seed: int
) -> Scored:
    """Learn scores, and cross-fit them; the arguments are `train_scoring`'s."""
    learn, alone = _LEARNERS[kind], [(name,) for name in order.models]
    rows = features.rows([case.sample.question for case in cases])
    meant = _meanings(cases, alone, reader, seed)
    right = _right(cases, order.models, meant)
    raw = _cross_fitted(rows, right, learn, [case.sample.question for case in cases], seed)
    scales = [_scale(raw[:, column], right[:, column]) for column in range(len(order.models))]
    scorer = Scorer(features, learn(rows, right, seed), scales)
    chances = scorer.scaled(raw)
    return Scored(scorer, chances, np.array([lead(list(row)) for row in chances]), meant, right)


def _neighbours(rows: Floats, right: Floats, seed: int) -> Neighbours:
    return Neighbours(rows, right)


def _network(rows: Floats, right: Floats, seed: int) -> GatingNetwork:
    from llama_index.packs.mixture_of_agents.gate.network_training import train_network

    return train_network(rows, right, seed)


_LEARNERS: dict[str, _Learn] = {"neighbours": _neighbours, "network": _network}


def _meanings(cases: Sequence[Case], alone: Sequence[Panel], reader: Reader, seed: int) -> list[_Answers]:
    """What each text means, by a reading that was not trained on it."""
    return cross_fitted(
        list(cases),
        lambda some: jury_of(some, alone, reader),
        lambda jury, case: {name: _meaning(jury, case, name) for name in case.readings},
        lambda case: case.sample.question,
        seed,
    )


def _meaning(jury: Jury, case: Case, name: str) -> str | None:
    found = jury.found(case.question, {name: case.readings[name]})
    return found.answer if found is not None else case.readings[name].answer


def _right(cases: Sequence[Case], models: Panel, meant: Sequence[_Answers]) -> Floats:
    rows = [
        [float(said[name] == case.truth) if name in said else np.nan for name in models]
        for case, said in zip(cases, meant, strict=True)
    ]
    return np.array(rows, dtype=float)


def _cross_fitted(rows: Floats, right: Floats, learn: _Learn, questions: Sequence[str], seed: int) -> Floats:
    raw = np.zeros_like(right)
    for learning, held_out in parted(questions, seed):
        raw[held_out] = learn(rows[learning], right[learning], seed).chances(rows[held_out])
    return raw


def _scale(raw: Floats, right: Floats) -> Platt:
    known = ~np.isnan(right)
    return Platt.fitted(raw[known], right[known])


def _outcomes(
    cases: Sequence[Case], models: Panel, chances: Floats, meant: Sequence[_Answers], top_k: int
) -> Any:
    """For each case whether the best few others are right, the dearest is, everyone's vote is."""
    found = []
    for case, row, said in zip(cases, chances, meant, strict=True):
        few = chosen_of(list(row[:-1]), False, 0.0, top_k)
        votes = [
            _vote(said, [models[p] for p in places], row[places])
            for places in (few, list(range(len(models))))
        ]
        found.append([votes[0] == case.truth, said.get(models[-1]) == case.truth, votes[1] == case.truth])
    return np.array(found, dtype=bool)


def _vote(said: _Answers, names: Sequence[str], chances: Floats) -> str | None:
    answers = [(name, said[name]) for name in names if name in said]
    weights = {name: vote_weight(float(chance)) for name, chance in zip(names, chances, strict=True)}
    return tally(answers, weights).answer if answers else None


def _facts(left_out: Any, outcomes: Any, scored: Scored, models: Panel) -> dict[str, Any]:
    """What to expect of new questions, by cross-fitting."""
    is_right = np.where(left_out, outcomes[:, 0], outcomes[:, 1])
    right, chances = scored.right, scored.chances
    known = ~np.isnan(right)
    return {
        "cases": len(outcomes),
        "accuracy": float(is_right.mean()),
        "accuracy_of_everyone": float(outcomes[:, 2].mean()),
        "share_of_dearest": float(1 - left_out.mean()),
        "loss": float((outcomes[:, 2] & ~is_right).mean()),
        "gain": float((~outcomes[:, 2] & is_right).mean()),
        "calibration_error": {
            name: calibration_error(chances[known[:, c], c], right[known[:, c], c])
            for c, name in enumerate(models)
        },
    }
