"""How a mixture is made of a dense model, as data, checked before anything is read or written.

It knows neither the model nor how any of it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.checks import is_int, is_number, require, require_count

ROUTERS = ("random", "kmeans")
_SEED_RANGE = range(2**63)


@dataclass(frozen=True)
class UpcyclingRecipe:
    """What `upcycle` is told besides the source and the destination.

    Args:
        experts: Experts per layer, at least 2.
        top_k: Experts that each token is sent to, between 1 and `experts`.
        noise: Standard deviation of the Gaussian noise on each expert's matrices, relative to the
            standard deviation of the dense matrix; 0 adds none.
        reinitialize: Share of each expert's intermediate units that are drawn anew, 0 to 1.
        router: "random" or "kmeans".
        prompts: What a k-means router is fitted to; None takes our own.
        seed: Of everything that is drawn.

    Raises:
        ConfigurationError: A value is not valid, or `prompts` are given to a random router.
    """

    experts: int = 4
    top_k: int = 2
    noise: float = 0.0
    reinitialize: float = 0.0
    router: str = "random"
    prompts: Sequence[str] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_counts()
        require(
            is_number(self.noise) and self.noise >= 0, "noise", self.noise, "0 or a finite number above it"
        )
        share = self.reinitialize
        require(is_number(share) and 0 <= share <= 1, "reinitialize", share, "a share between 0 and 1")
        require(self.router in ROUTERS, "router", self.router, " or ".join(map(repr, ROUTERS)))
        valid_seed = is_int(self.seed) and self.seed in _SEED_RANGE
        require(valid_seed, "seed", self.seed, "a whole number from 0 to 2**63 - 1")
        if self.prompts is not None:
            self._check_prompts(self.prompts)

    def _check_counts(self) -> None:
        require_count("top_k", self.top_k)
        require_count("experts", self.experts)
        if self.experts < 2:
            raise ConfigurationError(f"experts={self.experts} makes no mixture; it must be at least 2")
        if self.top_k > self.experts:
            raise ConfigurationError(
                f"top_k={self.top_k} is more than experts={self.experts}; "
                f"it must be between 1 and {self.experts}"
            )

    def _check_prompts(self, prompts: object) -> None:
        if self.router != "kmeans":
            raise ConfigurationError(
                f"prompts are given, but router={self.router!r} does not read any; leave them out, or choose "
                "router='kmeans'"
            )
        if not _are_texts(prompts):
            raise ConfigurationError(
                "prompts is not valid; it must be a list of texts, none of them empty (None takes our own)"
            )
        if not prompts:
            raise ConfigurationError("prompts is empty; give at least one text, or None for our own")

    @property
    def experts_are_copies(self) -> bool:
        """Whether all experts of a layer are the dense feed-forward network, unchanged."""
        return not self.noise and not self.reinitialize


def _are_texts(prompts: object) -> bool:
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Sequence):
        return False
    return all(isinstance(text, str) and text.strip() for text in prompts)
