"""Dispatch and combine: assignments in the order of their experts, and their outputs back at their tokens.

Knows neither how assignments were chosen nor how an expert computes; a frozen receipt remembers who went
where.

Shapes: T tokens, K experts per token, E experts, D model width, S assignments that are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dispatch:
    """Which assignments are computed, sorted by expert.

    Args:
        order_S: int64, each computed assignment's place in the flattened (T, K) choice.
        tokens_S: int64, the token it belongs to.
        counts: For each expert, how many it computes.
    """

    order_S: Tensor
    tokens_S: Tensor
    counts: tuple[int, ...]

    def slices(self) -> Iterator[tuple[int, slice]]:
        """Yield each expert that has something to do with its part of the S sorted assignments."""
        start = 0
        for expert, count in enumerate(self.counts):
            if count:
                yield expert, slice(start, start + count)
                start += count


def dispatch(experts_TK: Tensor, num_experts: int, kept_TK: Tensor | None = None) -> Dispatch:
    """Sort assignments by expert; those of one expert stay in the order of their tokens.

    Args:
        experts_TK: int64, the expert of each assignment.
        num_experts: E.
        kept_TK: Which assignments are computed; None means all.

    Returns:
        The receipt that `combine` needs.
    """
    experts_A = experts_TK.reshape(-1)
    if kept_TK is not None:
        # What is not computed sorts behind the last expert and is cut off.
        experts_A = experts_A.masked_fill(~kept_TK.reshape(-1), num_experts)
    order_A = torch.argsort(experts_A, stable=True)
    counts = torch.bincount(experts_A, minlength=num_experts).tolist()[:num_experts]
    order_S = order_A if kept_TK is None else order_A[: sum(counts)]
    return Dispatch(order_S, order_S // experts_TK.shape[1], tuple(counts))


def combine(outputs_SD: Tensor, receipt: Dispatch, weights_TK: Tensor) -> Tensor:
    """Sum each token's expert outputs, weighted, in the order of its K choices.

    A gather and a sum, not an `index_add`: the order of additions does not depend on the other tokens, so a
    token's result does not either. A token without a computed assignment gets zeros.

    Args:
        outputs_SD: What the experts returned, in the receipt's order.
        receipt: Who went where.
        weights_TK: Combine weights.

    Returns:
        (T, D), in the outputs' dtype.
    """
    tokens, top_k = weights_TK.shape
    by_choice_TKD = _back_in_place(outputs_SD, receipt, tokens * top_k).view(tokens, top_k, -1)
    return (by_choice_TKD * weights_TK.unsqueeze(2)).sum(dim=1).to(outputs_SD.dtype)


def _back_in_place(outputs_SD: Tensor, receipt: Dispatch, assignments: int) -> Tensor:
    """Undo the sorting; an assignment that was not computed has zeros, not a neighbour's output times 0."""
    order_S = receipt.order_S
    if len(order_S) == assignments:
        place_A = torch.empty_like(order_S)
        place_A[order_S] = torch.arange(assignments, device=order_S.device)
        return outputs_SD.index_select(0, place_A)
    zeros_AD = outputs_SD.new_zeros(assignments, outputs_SD.shape[1])
    return zeros_AD.index_copy(0, order_S, outputs_SD)
