"""The gate of `SparseMoELayer`: scores, choice, capacity and combine weights, and a record of all of it.

A softmax over one linear score per expert. Integers (who goes where) are planned by the functions that route
the large models here; floats carry the gradient. It does not know what an expert computes.

Shapes: T tokens without padding, D model width, E experts, K experts per token, G capacity groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from llama_index.packs.mixture_of_agents.sparse_moe import losses
from llama_index.packs.mixture_of_agents.sparse_moe.capacity import (
    Placement,
    can_bind,
    group_capacities,
    keep_within_capacity,
    overflowing,
    place_elsewhere,
)
from llama_index.packs.mixture_of_agents.sparse_moe.plans import ForwardPlan, plan_sequences
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings


@dataclass(frozen=True)
class Routing:
    """What the gate decided in one forward. Integers carry no gradient; logits, probabilities and weights do.

    T counts real tokens, in the order of the flattened (batch, sequence) input; padding is left out.

    Args:
        logits_TE: The gate's scores.
        probabilities_TE: Their softmax.
        chosen_TK: The gate's own choice, best first.
        experts_TK: The expert of each assignment, after rerouting.
        kept_TK: Whether the assignment is computed.
        rerouted_TK: Whether another expert computes it than was chosen; a subset of kept.
        weights_TK: The combine weights; 0 where dropped.
        capacity_G: Each group's capacity; one of at least the group's size cannot bind.
    """

    logits_TE: Tensor
    probabilities_TE: Tensor
    chosen_TK: Tensor
    experts_TK: Tensor
    kept_TK: Tensor
    rerouted_TK: Tensor
    weights_TK: Tensor
    capacity_G: Tensor

    @property
    def load(self) -> Tensor:
        """Assignments that each expert computes, (E,)."""
        return torch.bincount(self.experts_TK[self.kept_TK], minlength=self.logits_TE.shape[1])

    @property
    def dropped_share(self) -> float:
        """Share of the assignments that no expert computes."""
        return float((~self.kept_TK).sum()) / max(1, self.kept_TK.numel())

    @property
    def load_balancing_loss(self) -> Tensor:
        """See `losses.load_balancing_loss`; add it to the task's loss with a small factor."""
        return losses.load_balancing_loss(self.probabilities_TE, self.chosen_TK)

    @property
    def router_z_loss(self) -> Tensor:
        """See `losses.router_z_loss`; add it to the task's loss with a small factor."""
        return losses.router_z_loss(self.logits_TE)


class SoftmaxGate(nn.Module):
    """One score per expert, linear in the hidden state; the best K by softmax.

    Args:
        width: D.
        experts: E.
        normalize: Whether the weights of a token's choice are scaled to sum to 1. None: yes where there are
            several, no where there is one, since a weight that is always 1 gives the gate no gradient.
    """

    def __init__(self, width: int, experts: int, normalize: bool | None) -> None:
        super().__init__()
        self.normalize = normalize
        self.weight = nn.Parameter(torch.empty(experts, width).uniform_(-1, 1) / math.sqrt(width))

    def forward(self, hidden_TD: Tensor, lengths: Sequence[int], settings: RoutingSettings) -> Routing:
        """Decide who goes where, and what each answer will count.

        Args:
            hidden_TD: Hidden states, sequence after sequence.
            lengths: Tokens of each sequence.
            settings: With a `top_k` of its own.
        """
        logits_TE = functional.linear(hidden_TD, self.weight)
        # At least fp32: with fewer digits, near experts tie.
        exact = torch.promote_types(logits_TE.dtype, torch.float32)
        probabilities_TE = logits_TE.softmax(dim=-1, dtype=exact)
        chosen_TK = probabilities_TE.topk(settings.top_k or 1, dim=-1).indices
        weights_TE = self._weights(probabilities_TE, chosen_TK)
        plan = plan_sequences([range(length) for length in lengths], lengths, settings, hidden_TD.device)
        capacities = group_capacities(plan.group_sizes, chosen_TK.shape[1], len(self.weight), settings)
        placement = _place(weights_TE.detach(), chosen_TK, plan, capacities)
        return Routing(
            logits_TE=logits_TE,
            probabilities_TE=probabilities_TE,
            chosen_TK=chosen_TK,
            experts_TK=placement.experts_TK,
            kept_TK=placement.kept_TK,
            rerouted_TK=placement.rerouted_TK,
            weights_TK=_combine_weights(weights_TE, chosen_TK, placement, settings.renormalize),
            capacity_G=torch.tensor(capacities, dtype=torch.long, device=hidden_TD.device),
        )

    def _weights(self, probabilities_TE: Tensor, chosen_TK: Tensor) -> Tensor:
        """What each expert would count for a token, chosen or not: an assignment may be rerouted to it."""
        normalize = chosen_TK.shape[1] > 1 if self.normalize is None else self.normalize
        if not normalize:
            return probabilities_TE
        return probabilities_TE / probabilities_TE.gather(1, chosen_TK).sum(dim=1, keepdim=True)


def _place(weights_TE: Tensor, chosen_TK: Tensor, plan: ForwardPlan, capacities: Sequence[int]) -> Placement:
    if not can_bind(capacities, plan.group_sizes):
        return Placement(chosen_TK, torch.ones_like(chosen_TK).bool(), torch.zeros_like(chosen_TK).bool())
    experts, priority = weights_TE.shape[1], plan.settings.capacity_priority
    weights_TK = weights_TE.gather(1, chosen_TK)
    kept_TK = keep_within_capacity(chosen_TK, weights_TK, plan.groups_T, capacities, experts, priority)
    if not plan.settings.reroutes:
        return Placement(chosen_TK, kept_TK, torch.zeros_like(kept_TK))
    overflow = overflowing(kept_TK, weights_TK, plan.groups_T, priority).tolist()
    tokens = sorted({assignment // chosen_TK.shape[1] for assignment in overflow})
    best_first = weights_TE[tokens].argsort(dim=1, descending=True, stable=True).tolist()
    preferences = dict(zip(tokens, best_first, strict=True))
    return place_elsewhere(chosen_TK, kept_TK, plan.groups_T, capacities, experts, overflow, preferences)


def _combine_weights(
    weights_TE: Tensor, chosen_TK: Tensor, placement: Placement, renormalize: bool
) -> Tensor:
    weights_TK = weights_TE.gather(1, placement.experts_TK) * placement.kept_TK
    if not renormalize:
        return weights_TK
    before_T1 = weights_TE.gather(1, chosen_TK).sum(dim=1, keepdim=True)
    after_T1 = weights_TK.sum(dim=1, keepdim=True)
    # A token that keeps nothing has nothing to rescale; dividing by 1 there also keeps its gradient finite.
    return weights_TK * before_T1 / torch.where(after_T1 > 0, after_T1, 1)
