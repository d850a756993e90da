"""A conditional logit: which of a question's candidates is right, or none of them, as probabilities.

McFadden's model (Conditional logit analysis of qualitative choice behavior, 1974): a candidate's odds are
exp(w . features), and "none of them" is one more alternative with features of its own. With an L2 penalty it
has one optimum, which Newton's method finds without anything drawn by chance. It knows nothing of texts.

Shapes: N questions, K alternatives, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llama_index.packs.mixture_of_agents.gate.ballots import NONE_WIDTH, Ballot, Floats

RIDGE = 10.0
_FREE = 1e-3
"""Penalty on the constant of "none of them": how often nobody is right should not be pulled anywhere."""
_LEAST_SPREAD = 0.05
_STEPS = 50
_CLOSE = 1e-8


@dataclass(frozen=True)
class ConditionalLogit:
    """What was learned.

    Attributes:
        mean: Of each candidate feature, over all candidates learned from.
        spread: Their standard deviations.
        weights: Of the candidate features once mean and spread are out, then those of "none of them".
    """

    mean: Floats
    spread: Floats
    weights: Floats

    @classmethod
    def fitted(
        cls, ballots: Sequence[Ballot], places: Sequence[int], ridge: float = RIDGE
    ) -> ConditionalLogit:
        """Learn from questions of one panel.

        Args:
            ballots: One at least with a candidate.
            places: For each the row that is right; the row after the last where none is.
            ridge: The L2 penalty on standardised weights.
        """
        stacked = np.concatenate([ballot.features for ballot in ballots])
        if not len(stacked):  # nobody ever gave an answer
            stacked = np.zeros((1, ballots[0].features.shape[1]))
        mean, spread = stacked.mean(axis=0), np.maximum(stacked.std(axis=0), _LEAST_SPREAD)
        start = cls(mean, spread, np.zeros(stacked.shape[1] + NONE_WIDTH))
        penalty = np.full(len(start.weights), ridge)
        penalty[stacked.shape[1]] = _FREE
        return cls(mean, spread, _optimum(*start._padded(ballots), np.asarray(places), penalty))

    def probabilities(self, ballot: Ballot) -> Floats:
        """Of each candidate to be right, and, last, of none to be."""
        features, _ = self._padded([ballot])
        return _softmax(features[0] @ self.weights)

    def as_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {name: [float(v) for v in getattr(self, name)] for name in ("mean", "spread", "weights")}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> ConditionalLogit:
        """Of what `as_json` gave."""
        return cls(*(np.array(kept[name], dtype=np.float64) for name in ("mean", "spread", "weights")))

    def _padded(self, ballots: Sequence[Ballot]) -> tuple[Floats, Any]:
        """All ballots as one NKF block, and which alternatives exist; "none" is the last of each."""
        most = max(len(ballot.candidates) for ballot in ballots) + 1
        width = len(self.mean)
        features = np.zeros((len(ballots), most, width + NONE_WIDTH))
        exists = np.zeros((len(ballots), most), dtype=bool)
        for index, ballot in enumerate(ballots):
            count = len(ballot.candidates)
            features[index, :count, :width] = (ballot.features - self.mean) / self.spread
            features[index, count, width:] = ballot.none
            exists[index, : count + 1] = True
        return features, exists


def _optimum(features: Floats, exists: Any, places: Any, penalty: Floats) -> Floats:
    weights = np.zeros(len(penalty))
    target = features[np.arange(len(features)), places].sum(axis=0)
    for _ in range(_STEPS):
        chances = _softmax(np.where(exists, features @ weights, -np.inf))
        expected = np.einsum("nk,nkf->nf", chances, features)
        slope = target - expected.sum(axis=0) - penalty * weights
        # Weighted by the root, so that one product of matrices does it.
        rooted = (np.sqrt(chances)[:, :, None] * features).reshape(-1, len(penalty))
        curve = rooted.T @ rooted - expected.T @ expected + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        weights = weights + step
        if np.abs(step).max() < _CLOSE:
            break
    return weights


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    chances: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return chances
