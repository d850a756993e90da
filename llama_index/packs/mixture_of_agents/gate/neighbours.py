"""Who was right on the questions most like this one: nearest neighbours over past runs.

Pure arithmetic on rows of features. It knows nothing of texts, nor what is done with the probabilities.

Shapes: N past questions, F features, M models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from llama_index.packs.mixture_of_agents.gate.ballots import Floats

NEAREST = 40
_PRIOR = 20.0
"""So many neighbours' weight has what is true of all questions."""


@dataclass(frozen=True)
class Neighbours:
    """Past questions and who was right on them.

    Attributes:
        rows: Features of the past questions, their first part of length 1.
        right: 1 where a model's answer was right, 0 where it was not, NaN where it was not asked.
        nearest: How many neighbours have a say.
    """

    rows: Floats
    right: Floats
    nearest: int = NEAREST

    def chances(self, rows: Floats) -> Floats:
        """Of each model to be right on each question: its neighbours' shares, drawn to those of all."""
        overall = _mean(self.right, np.ones(len(self.right)))
        near = _lengths_one(rows) @ _lengths_one(self.rows).T
        return np.stack([self._chance(similar, overall) for similar in near]) if len(rows) else near

    def _chance(self, similar: Floats, overall: Floats) -> Floats:
        order = np.argsort(-similar, kind="stable")[: self.nearest]
        weights = np.maximum(similar[order], 0.0)[:, None]
        known = ~np.isnan(self.right[order])
        seen = (weights * np.where(known, self.right[order], 0.0)).sum(axis=0)
        chance: Floats = (seen + _PRIOR * overall) / ((weights * known).sum(axis=0) + _PRIOR)
        return chance

    def arrays(self) -> dict[str, Any]:
        """What is kept on disk."""
        return {"rows": self.rows, "right": self.right}


def _mean(right: Floats, weights: Floats) -> Floats:
    known = ~np.isnan(right)
    total = (weights[:, None] * known).sum(axis=0)
    mean: Floats = (weights[:, None] * np.where(known, right, 0.0)).sum(axis=0) / np.maximum(total, 1e-12)
    return mean


def _lengths_one(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit
