"""What a trained gate is to keep to: a bound on what it loses, or a limit on calls to the dearest model."""

from __future__ import annotations

from dataclasses import dataclass

from llama_index.packs.mixture_of_agents.checks import number
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.ballots import Floats
from llama_index.packs.mixture_of_agents.gate.risk import threshold_for_loss, threshold_for_share

HALF = 0.5


@dataclass(frozen=True)
class Target:
    """One of the two.

    Attributes:
        bound: The most that the expected loss of right answers against always asking everyone may be.
        share: The most that the share of questions may be that the dearest model is asked.

    Raises:
        ConfigurationError: Both are given, neither is, or it is not between 0 and 1.
    """

    bound: float | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        if (self.bound is None) == (self.share is None):
            raise ConfigurationError(
                "Give a bound on the loss, or a limit on the share of calls to the dearest model: one of the "
                "two sets the threshold."
            )
        number("bound", self.bound, 0, 1, none="for a limit on the share instead")
        number("share", self.share, 0, 1, none="for a bound on the loss instead")

    def threshold(self, scores: Floats, losses: Floats) -> float:
        """What a score must reach for the dearest model to be left out; the arguments are `risk`'s."""
        if self.bound is not None:
            return threshold_for_loss(scores, losses, self.bound)
        return threshold_for_share(scores, self.share if self.share is not None else HALF)
