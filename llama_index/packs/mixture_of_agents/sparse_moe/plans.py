"""What travels with one forward pass: the settings and which token belongs to which capacity group.

Knows no model and no router; `experts.py` carries a plan out, `stats.py` looks at what came of it.

Shapes: T tokens of the flattened (batch, sequence) input, K experts per token, E experts, G capacity groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings

if TYPE_CHECKING:
    from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import MoELayer


@dataclass(frozen=True)
class LayerRouting:
    """Who went where in one layer of one forward pass.

    Args:
        experts_TK: int64, the expert of each assignment, after rerouting.
        kept_TK: Whether the assignment was computed; False for padding.
        rerouted_TK: Whether it was computed by another expert than the router chose; a subset of kept.
        weights_TK: The combine weights used; 0 where dropped.
        logits_TE: The router's own scores of all experts, where it tells them.
        capacity_G: int64, each group's capacity; one of at least the group's size cannot bind.
    """

    experts_TK: Tensor
    kept_TK: Tensor
    rerouted_TK: Tensor
    weights_TK: Tensor
    logits_TE: Tensor | None
    capacity_G: Tensor


class Recorder(Protocol):
    """Whoever wants to see each layer's routing; called on the thread that runs the model."""

    def observe(self, layer: MoELayer, routing: LayerRouting, plan: ForwardPlan) -> None:
        """Take note of one layer of one forward pass; the tensors are not to be changed."""


@dataclass(frozen=True)
class ForwardPlan:
    """The routing of one forward pass.

    Args:
        settings: What is changed about the model's own routing.
        groups_T: int64 on the model's device: each token's capacity group, from 0; -1 for padding.
        group_sizes: Tokens per group, padding not counted.
        rows_T: int64: each token's row (request), from 0; -1 for padding.
        recorder: Sees what every layer did; None costs nothing.
    """

    settings: RoutingSettings
    groups_T: Tensor
    group_sizes: tuple[int, ...]
    rows_T: Tensor
    recorder: Recorder | None = None

    @property
    def has_padding(self) -> bool:
        """Whether some tokens belong to no group."""
        return sum(self.group_sizes) < self.groups_T.numel()


def plan_sequences(
    positions: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int],
    settings: RoutingSettings,
    device: torch.device | str,
    recorder: Recorder | None = None,
) -> ForwardPlan:
    """Plan one forward pass over rows of tokens without padding.

    In `"sequence"` scope the tokens of a prompt are grouped by `position // capacity_block`, row by row, and
    each generated token is a group of its own. A group counts what is in this pass, so a chunk of a prompt
    must hold whole blocks (or reach the prompt's end) for its plan to be that of one pass over all of it.

    Args:
        positions: For each row, the absolute positions of its tokens in this pass.
        prompt_lengths: For each row, how many positions are its prompt; later ones were generated.
        settings: What is changed about the model's own routing.
        device: Where the model runs.
        recorder: Sees what every layer did.

    Returns:
        The plan, for tokens flattened row after row.
    """
    rows = [row for row, tokens in enumerate(positions) for _ in tokens]
    rows_T = torch.tensor(rows, dtype=torch.long, device=device)
    if settings.capacity_scope == "batch":
        return ForwardPlan(settings, torch.zeros_like(rows_T), (len(rows),), rows_T, recorder)
    groups: list[int] = []
    sizes: list[int] = []
    for tokens, prompt_length in zip(positions, prompt_lengths, strict=True):
        _group_row(tokens, prompt_length, settings.capacity_block, groups, sizes)
    groups_T = torch.tensor(groups, dtype=torch.long, device=device)
    return ForwardPlan(settings, groups_T, tuple(sizes), rows_T, recorder)


def _group_row(
    positions: Sequence[int], prompt_length: int, block: int, groups: list[int], sizes: list[int]
) -> None:
    group_of_block: dict[int, int] = {}
    for position in positions:
        # A generated token's key is negative and used once.
        key = position // block if position < prompt_length else -1 - position
        group = group_of_block.setdefault(key, len(sizes))
        if group == len(sizes):
            sizes.append(0)
        sizes[group] += 1
        groups.append(group)
