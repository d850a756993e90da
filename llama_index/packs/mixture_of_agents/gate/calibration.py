"""Probabilities that mean what they say: Platt's scaling, and how far off they are.

Platt (Probabilistic outputs for support vector machines, 1999): two numbers, a slope and an offset on the
log-odds, so little data does not overfit. The expected calibration error is that of Guo et al.
(arXiv 1706.04599). Nothing here knows what the probabilities are of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llama_index.packs.mixture_of_agents.gate.ballots import Floats

_EDGE = 1e-6
_STEPS = 50
_PULL = 1.0
"""Penalty on a slope away from 1 and an offset away from 0."""


@dataclass(frozen=True)
class Platt:
    """A slope and an offset on the log-odds.

    Attributes:
        slope: 1 leaves probabilities as they are.
        offset: 0 does.
    """

    slope: float = 1.0
    offset: float = 0.0

    @classmethod
    def fitted(cls, chances: Sequence[float] | Floats, right: Sequence[bool] | Floats) -> Platt:
        """Learn from probabilities of cases that were not trained on, and what came true."""
        if len(chances) == 0:
            return cls()
        odds, truth = _log_odds(np.asarray(chances, dtype=float)), np.asarray(right, dtype=float)
        design = np.stack([odds, np.ones_like(odds)], axis=1)
        start = np.array([1.0, 0.0])
        found = start
        for _ in range(_STEPS):
            said = _sigmoid(design @ found)
            slope = design.T @ (truth - said) - _PULL * (found - start)
            curve = (design * (said * (1 - said))[:, None]).T @ design + _PULL * np.eye(2)
            step = np.linalg.solve(curve, slope)
            found = found + np.clip(step, -1, 1)
            if np.abs(step).max() < 1e-9:
                break
        return cls(float(found[0]), float(found[1]))

    def __call__(self, chances: Floats | float) -> Floats:
        """Probabilities that mean what they say."""
        return _sigmoid(self.slope * _log_odds(np.asarray(chances, dtype=float)) + self.offset)


def calibration_error(
    chances: Sequence[float] | Floats, right: Sequence[bool] | Floats, bins: int = 10
) -> float:
    """The expected calibration error over bins of equal count; 0 without cases."""
    said, truth = np.asarray(chances, dtype=float), np.asarray(right, dtype=float)
    if not len(said):
        return 0.0
    parts = np.array_split(np.argsort(said, kind="stable"), min(bins, len(said)))
    return float(sum(len(p) * abs(said[p].mean() - truth[p].mean()) for p in parts) / len(said))


def _log_odds(chances: Floats) -> Floats:
    inside = np.clip(chances, _EDGE, 1 - _EDGE)
    odds: Floats = np.log(inside / (1 - inside))
    return odds


def _sigmoid(odds: Floats) -> Floats:
    chances: Floats = 1 / (1 + np.exp(-np.clip(odds, -60, 60)))
    return chances
