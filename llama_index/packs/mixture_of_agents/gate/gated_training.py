"""The network and the cascade behind it, learned together of recorded answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llama_index.packs.mixture_of_agents.gate.ballots import Case, Panel
from llama_index.packs.mixture_of_agents.gate.cascade_training import (
    Judged,
    Staged,
    cascade_of,
    jury_of,
    staged_by,
    stages_of,
)
from llama_index.packs.mixture_of_agents.gate.gated import GatedCascade, straight_below
from llama_index.packs.mixture_of_agents.gate.order import Order, groups_of
from llama_index.packs.mixture_of_agents.gate.question_features import QuestionFeatures
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.risk import NO_STOP
from llama_index.packs.mixture_of_agents.gate.scoring_gate import TOP_K, ScoringGate
from llama_index.packs.mixture_of_agents.gate.scoring_training import scored_by
from llama_index.packs.mixture_of_agents.gate.targets import Target


def train_gated(
    cases: Sequence[Case],
    order: Order,
    reader: Reader,
    target: Target,
    features: QuestionFeatures,
    *,
    seed: int = 0,
    first: int | None = None,
    embed: str | None = None,
) -> GatedCascade:
    """Learn both.

    Args:
        cases: Questions with answers.
        order: The models.
        reader: What an answer is.
        target: What the cascade's threshold is to keep to, those that go straight counted in.
        features: Of questions.
        seed: Of the folds, and of the network's beginning.
        first: How many of the cheapest are asked at once; see `order.groups_of`.
        embed: Name of the embedding model in `features`.
    """
    scored = scored_by("network", cases, order, reader, features, seed)
    groups = groups_of(order, first)
    dearest: Panel = (order.dearest,)
    whole = staged_by(cases, [*stages_of(groups)[:-1], dearest, stages_of(groups)[-1]], reader, seed)
    staged, alone = _without_dearest(whole)
    escalated = ~(staged.scores >= staged.threshold(target)).any(axis=1)
    straight = straight_below(scored.leads, escalated)
    goes = scored.leads < straight
    mixed = _with_straight(staged, alone, goes)
    threshold = mixed.threshold(target)
    facts = order.facts() | mixed.facts(threshold) | {"share_straight": float(goes.mean())}
    network = ScoringGate(
        name="network",
        models=order.models,
        scorer=scored.scorer,
        jury=jury_of(cases, [(name,) for name in order.models], reader),
        threshold=threshold,
        top_k=TOP_K,
        embed=embed,
    )
    cascade = cascade_of(cases, order, groups, staged, threshold, reader, {})
    return GatedCascade(network, cascade, straight, facts)


def _without_dearest(whole: Staged) -> tuple[Staged, Any]:
    """The cascade's own stages; and whether the dearest alone is right."""
    place = whole.judged.right.shape[1] - 2
    judged = Judged(
        np.delete(whole.judged.confidence, place, axis=1), np.delete(whole.judged.right, place, axis=1)
    )
    staged = Staged(judged, list(whole.scales[:place]), whole.scores[:, :place])
    return staged, whole.judged.right[:, place]


def _with_straight(staged: Staged, alone: Any, goes: Any) -> Staged:
    """Who goes straight stops nowhere, and is answered by the dearest alone."""
    right = staged.judged.right.copy()
    right[:, -1] = np.where(goes, alone, right[:, -1])
    scores = np.where(goes[:, None], NO_STOP, staged.scores)
    return Staged(Judged(staged.judged.confidence, right), staged.scales, scores)
