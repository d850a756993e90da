"""How tokens are to be routed: the settings, checked, and the capacity they give an expert.

Plain numbers: knows no tensor, no model and no torch, so options can be checked before anything is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from llama_index.packs.mixture_of_agents.sparse_moe.checks import (
    is_number,
    require,
    require_count,
    require_one_of,
)

OVERFLOWS = ("drop", "reroute")
SCOPES = ("sequence", "batch")
PRIORITIES = ("weight", "position")
_LARGEST_DENOMINATOR = 10**9


@dataclass(frozen=True)
class RoutingSettings:
    """What may be changed about a model's routing; the defaults change nothing.

    With a `capacity_factor`, each expert takes at most `capacity_of(...)` tokens of a group of tokens (Switch
    Transformers, arXiv 2101.03961; GShard, arXiv 2006.16668). What a group is, `capacity_scope` says:

    - `"sequence"`: a block of `capacity_block` consecutive prompt tokens of one request, counted from its
      first token; each generated token is a group of its own, so the limit never binds while decoding and no
      request feels its neighbours in the batch.
    - `"batch"`: all tokens of one forward pass, as in training. The limit may bind while decoding, and what
      others ask at the same moment matters.

    The limit cannot bind where it is at least the group's size, since a token never uses an expert twice.

    Args:
        top_k: Experts per token; None leaves the checkpoint's own number.
        capacity_factor: How many times the even share an expert may take; None means no limit.
        min_capacity: No expert's limit is lower.
        overflow: What happens to an assignment beyond the limit. `"drop"`: the token goes without that
            expert; if it loses all, its residual path is left. `"reroute"`: it goes to the next best expert
            with room, or is dropped if there is none.
        capacity_scope: `"sequence"` or `"batch"`, see above.
        capacity_block: Prompt tokens per group in `"sequence"` scope.
        capacity_priority: Who is kept: `"weight"`, the assignments with the largest combine weight, ties by
            position; `"position"`, the earliest tokens, as Switch does it.
        renormalize: Rescale the weights a token keeps to the sum it had before.

    Raises:
        ConfigurationError: A value cannot work.
    """

    top_k: int | None = None
    capacity_factor: float | None = None
    min_capacity: int = 1
    overflow: str = "drop"
    capacity_scope: str = "sequence"
    capacity_block: int = 128
    capacity_priority: str = "weight"
    renormalize: bool = False

    def __post_init__(self) -> None:
        if self.top_k is not None:
            require_count("top_k", self.top_k)
        factor = self.capacity_factor
        valid = factor is None or (is_number(factor) and factor > 0)
        require(valid, "capacity_factor", factor, "a number above 0, or None for no limit")
        require_count("min_capacity", self.min_capacity)
        require_count("capacity_block", self.capacity_block)
        require_one_of("overflow", self.overflow, OVERFLOWS)
        require_one_of("capacity_scope", self.capacity_scope, SCOPES)
        require_one_of("capacity_priority", self.capacity_priority, PRIORITIES)
        require_one_of("renormalize", self.renormalize, (False, True))

    @property
    def limited(self) -> bool:
        """Whether experts have a capacity at all."""
        return self.capacity_factor is not None

    @property
    def reroutes(self) -> bool:
        """Whether an assignment beyond an expert's capacity may go to another expert."""
        return self.limited and self.overflow == "reroute"


def capacity_of(tokens: int, top_k: int, experts: int, settings: RoutingSettings) -> int:
    """Count the tokens of a group that one expert may take.

    `max(min_capacity, ceil(capacity_factor * tokens * top_k / experts))`, in fractions: 1.1 times 10 is 11,
    not a little more than 11 rounded up to 12.

    Args:
        tokens: Tokens in the group, padding not counted.
        top_k: Experts per token.
        experts: Experts in the layer.
        settings: With or without a `capacity_factor`.

    Returns:
        The capacity C; without a `capacity_factor`, `tokens`, which cannot bind.
    """
    if settings.capacity_factor is None:
        return tokens
    factor = Fraction(settings.capacity_factor).limit_denominator(_LARGEST_DENOMINATOR)
    return max(settings.min_capacity, math.ceil(factor * tokens * top_k / experts))
