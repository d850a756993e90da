"""What a layer's experts compute: one after another, each for the tokens sent to it.

It takes every experts class of transformers' interface by its flags (with or without a gate, a bias, a norm
behind); how weights are kept is `expert_weights.py`'s matter. Knows neither routers nor capacity.

Shapes: T tokens, N tokens of one expert, K experts per token, E experts, D model width, S assignments that
are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from llama_index.packs.mixture_of_agents.sparse_moe.dispatch import combine, dispatch
from llama_index.packs.mixture_of_agents.sparse_moe.expert_weights import expert_weights
from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import expert_count


def compute_experts(
    module: Any,
    hidden_TD: Tensor,
    experts_TK: Tensor,
    weights_TK: Tensor,
    kept_TK: Tensor | None = None,
) -> Tensor:
    """Compute the experts that have tokens, one after another, and combine what they return.

    Args:
        module: An experts module of transformers' interface, dense or int8.
        hidden_TD: What comes in.
        experts_TK: The expert of each assignment.
        weights_TK: Combine weights.
        kept_TK: Which assignments are computed; None means all.

    Returns:
        (T, D), in the dtype of what came in.
    """
    if len(hidden_TD) == 1 and kept_TK is None:
        return _compute_one_token(module, hidden_TD, experts_TK, weights_TK)
    receipt = dispatch(experts_TK, expert_count(module), kept_TK)
    if not len(receipt.order_S):
        return torch.zeros_like(hidden_TD)
    compute = _one_expert(module)
    sorted_SD = hidden_TD.index_select(0, receipt.tokens_S)
    outputs_SD = torch.cat([compute(expert, sorted_SD[part]) for expert, part in receipt.slices()])
    return combine(outputs_SD, receipt, weights_TK).to(hidden_TD.dtype)


def _compute_one_token(module: Any, hidden_1D: Tensor, experts_1K: Tensor, weights_1K: Tensor) -> Tensor:
    """As `compute_experts`, without sorting: a tenth less time per layer where decoding spends its life."""
    compute = _one_expert(module)
    outputs_KD = torch.cat([compute(expert, hidden_1D) for expert in experts_1K[0].tolist()])
    return (outputs_KD * weights_1K.view(-1, 1)).sum(dim=0, keepdim=True).to(hidden_1D.dtype)


def _one_expert(module: Any) -> Callable[[int, Tensor], Tensor]:
    weights = expert_weights(module)

    def compute(expert: int, tokens_ND: Tensor) -> Tensor:
        inner = weights.project_in(expert, tokens_ND)
        inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
        output_ND = weights.project_out(expert, inner)
        return module.post_expert_norm(output_ND) if module.has_post_expert_norm else output_ND

    return compute
