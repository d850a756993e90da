"""The gating network: a question's features -> for each model the probability that its answer is right.

One hidden layer. It runs on numpy; `network_training` makes it. The names are those of a mixture of experts'
router (arXiv 1701.06538): models are the experts, questions the tokens.

Shapes: T questions, F features, H hidden units, E models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from llama_index.packs.mixture_of_agents.gate.ballots import Floats


@dataclass(frozen=True)
class GatingNetwork:
    """Weights of a trained network.

    Attributes:
        mean: Of the features, F.
        spread: Their standard deviations, F.
        inner: F by H.
        inner_bias: H.
        outer: H by E.
        outer_bias: E.
    """

    mean: Floats
    spread: Floats
    inner: Floats
    inner_bias: Floats
    outer: Floats
    outer_bias: Floats

    def logits(self, rows: Floats) -> Floats:
        """Scores of all models, T by E."""
        hidden = np.tanh((rows - self.mean) / self.spread @ self.inner + self.inner_bias)
        scores: Floats = hidden @ self.outer + self.outer_bias
        return scores

    def chances(self, rows: Floats) -> Floats:
        """Of each model to be right on each question, T by E; not yet scaled."""
        chances: Floats = 1 / (1 + np.exp(-np.clip(self.logits(rows), -60, 60)))
        return chances

    def arrays(self) -> dict[str, Any]:
        """What is kept on disk."""
        return dict(vars(self))
