"""One layer's routing under a plan: from the router's choice to who is computed where, with which weight.

Brings together the integers of `capacity.py` and the router's way of scoring. Knows neither how a model is
made to ask for this nor how an expert computes.

Shapes: T tokens, N tokens with overflowing assignments, K experts per token, E experts, G capacity groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.capacity import (
    Placement,
    can_bind,
    keep_within_capacity,
    overflowing,
    place_elsewhere,
)
from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import MoELayer
from llama_index.packs.mixture_of_agents.sparse_moe.plans import ForwardPlan


def place(
    layer: MoELayer,
    plan: ForwardPlan,
    capacities: Sequence[int],
    experts_TK: Tensor,
    weights_TK: Tensor,
    logits_TE: Tensor | None,
) -> Placement | None:
    """Decide where each assignment of a layer is computed, if at all.

    Args:
        layer: The layer, for its router's rule.
        plan: Settings and groups.
        capacities: C of each group.
        experts_TK: The router's choice.
        weights_TK: Its weights.
        logits_TE: Its scores of all experts; needed to reroute.

    Returns:
        The placement; None where everything stays as the router chose, which costs nothing to find out.

    Raises:
        SparseMoEError: Something has to be rerouted, and the router's scores did not come by.
    """
    if not can_bind(capacities, plan.group_sizes):
        return _without_padding(plan, experts_TK) if plan.has_padding else None
    settings = plan.settings
    kept_TK = keep_within_capacity(
        experts_TK, weights_TK, plan.groups_T, capacities, layer.num_experts, settings.capacity_priority
    )
    stay = Placement(experts_TK, kept_TK, torch.zeros_like(kept_TK))
    if not settings.reroutes:
        return stay
    over_A = overflowing(kept_TK, weights_TK, plan.groups_T, settings.capacity_priority)
    if not len(over_A):
        return stay
    preferences = _preferences(layer, logits_TE, over_A // experts_TK.shape[1])
    return place_elsewhere(
        experts_TK, kept_TK, plan.groups_T, capacities, layer.num_experts, over_A.tolist(), preferences
    )


def placed_weights(
    layer: MoELayer,
    placement: Placement,
    experts_TK: Tensor,
    weights_TK: Tensor,
    logits_TE: Tensor | None,
    *,
    renormalize: bool = False,
) -> Tensor:
    """Return the combine weights that go with a placement.

    Kept weights are the router's. A rerouted assignment gets what the architecture's own scoring gives the
    new expert, over the normaliser that the token had. Dropped ones get 0.

    Args:
        layer: The layer, for its router's rule.
        placement: Where assignments are computed.
        experts_TK: The router's choice.
        weights_TK: Its weights.
        logits_TE: Its scores of all experts; needed where something was rerouted.
        renormalize: Rescale what a token keeps to the sum it had; a token that lost everything stays at 0.

    Returns:
        (T, K), in the weights' dtype.
    """
    placed_TK = weights_TK.masked_fill(~placement.kept_TK, 0)
    if bool(placement.rerouted_TK.any()):
        logits_TE = _required(layer, logits_TE)
        new_TK, old_TK = logits_TE.gather(1, placement.experts_TK), logits_TE.gather(1, experts_TK)
        ratio_TK = layer.rule.weight_ratio(new_TK, old_TK).to(weights_TK.dtype)
        placed_TK = torch.where(placement.rerouted_TK, placed_TK * ratio_TK, placed_TK)
    if not renormalize:
        return placed_TK
    left_T = placed_TK.sum(dim=1)
    scale_T = torch.where(left_T != 0, weights_TK.sum(dim=1) / left_T, torch.ones_like(left_T))
    return placed_TK * scale_T.unsqueeze(1)


def _without_padding(plan: ForwardPlan, experts_TK: Tensor) -> Placement:
    kept_TK = (plan.groups_T >= 0).unsqueeze(1).expand_as(experts_TK)
    return Placement(experts_TK, kept_TK, torch.zeros_like(kept_TK))


def _preferences(layer: MoELayer, logits_TE: Tensor | None, tokens_A: Tensor) -> Mapping[int, Sequence[int]]:
    """Rank, for each token that lost an assignment, the experts its router would let it use."""
    tokens_N = torch.unique(tokens_A)
    scores_NE = layer.choice_scores(_required(layer, logits_TE)[tokens_N])
    ranked_NE = torch.argsort(scores_NE, dim=1, descending=True, stable=True).tolist()
    allowed_N = (scores_NE > float("-inf")).sum(dim=1).tolist()
    rows = zip(tokens_N.tolist(), ranked_NE, allowed_N, strict=True)
    return {token: ranked[:allowed] for token, ranked, allowed in rows}


def _required(layer: MoELayer, logits_TE: Tensor | None) -> Tensor:
    if logits_TE is None:
        raise SparseMoEError(
            f"The router of {layer.name} did not say how it scores all experts, so nothing can be rerouted; "
            "use overflow='drop'."
        )
    return logits_TE
