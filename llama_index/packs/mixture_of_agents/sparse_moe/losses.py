"""The two losses that keep a router in training: balance between experts, and small logits.

Pure functions of what the router gave. They know nothing of experts' weights, of capacity, or of who adds
them to what with which factor.

Shapes: T tokens (padding left out), E experts, K experts per token.
"""

from __future__ import annotations

import torch
from torch import Tensor


def load_balancing_loss(probabilities_TE: Tensor, experts_TK: Tensor) -> Tensor:
    """How unevenly the router spreads tokens: 1 when they are spread evenly, up to E / K at a collapse.

    Switch Transformers' E * sum_e f_e P_e (arXiv 2101.03961, equation 4). f_e is the share of assignments
    that name expert e and P_e the mean probability it gets; with K experts per token each assignment counts
    1 / K, so that an even spread is 1 for every K. f_e is a count and gives no gradient: the loss pulls
    probability away from each expert in proportion to what it has.

    Args:
        probabilities_TE: The router's softmax over all experts.
        experts_TK: The router's own choice, before capacity changes any of it.

    Returns:
        A scalar; 0 without tokens.
    """
    tokens, experts = probabilities_TE.shape
    if tokens == 0:
        return probabilities_TE.sum()
    load_E = torch.bincount(experts_TK.flatten(), minlength=experts)
    share_E = load_E.to(probabilities_TE.dtype) / experts_TK.numel()
    return experts * (share_E * probabilities_TE.mean(dim=0)).sum()


def router_z_loss(logits_TE: Tensor) -> Tensor:
    """The mean square of log(sum(exp(logits))), which keeps a router's logits small.

    ST-MoE (arXiv 2202.08906, equation 5): large logits lose precision in the softmax and make training
    unstable.

    Args:
        logits_TE: The router's scores of all experts.

    Returns:
        A scalar; 0 without tokens.
    """
    if len(logits_TE) == 0:
        return logits_TE.sum()
    return torch.logsumexp(logits_TE, dim=-1).square().mean()
