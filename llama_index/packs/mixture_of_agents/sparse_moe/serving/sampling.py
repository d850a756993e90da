"""From one row of logits to one token id.

Pure decisions: same logits, settings and generator state, same token. Always computed on the CPU in
float32, so that a seed means the same on every device. It does not know what model the logits come
from, nor who asked for the token.

Shapes: V vocabulary, N tokens seen so far (prompt and answer).
"""

from __future__ import annotations

import torch
from torch import Tensor

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.requests import SamplingSettings


def penalise_repetition(logits_V: Tensor, seen_ids: list[int], penalty: float) -> Tensor:
    """Make tokens that already appeared less likely.

    Args:
        logits_V: Raw scores.
        seen_ids: Token ids of the prompt and the answer so far.
        penalty: Above 1 discourages repetition, 1 changes nothing.

    Returns:
        New scores (V): positive ones of seen tokens divided by the penalty, negative ones multiplied
        by it (CTRL, arXiv 1909.05858, section 4.1, with the sign handled as transformers does).
    """
    if penalty == 1.0:
        return logits_V
    seen_N = torch.tensor(sorted({i for i in seen_ids if i < logits_V.numel()}), dtype=torch.long)
    chosen_N = logits_V[seen_N]
    return logits_V.scatter(0, seen_N, torch.where(chosen_N < 0, chosen_N * penalty, chosen_N / penalty))


def keep_top_k(logits_V: Tensor, top_k: int | None) -> Tensor:
    """Leave the `top_k` largest scores (ties at the edge stay), minus infinity elsewhere."""
    if top_k is None or top_k >= logits_V.numel():
        return logits_V
    smallest_kept = torch.topk(logits_V, top_k).values[-1]
    return logits_V.masked_fill(logits_V < smallest_kept, float("-inf"))


def keep_top_p(logits_V: Tensor, top_p: float) -> Tensor:
    """Leave the smallest set of tokens whose probability reaches `top_p` (nucleus, arXiv 1904.09751)."""
    if top_p >= 1.0:
        return logits_V
    sorted_V, order_V = torch.sort(logits_V, descending=True, stable=True)
    probability_V = sorted_V.softmax(dim=-1)
    reached_before_V = probability_V.cumsum(dim=-1) - probability_V
    # The first token is kept whatever top_p is, since nothing comes before it.
    drop_V = torch.zeros_like(logits_V, dtype=torch.bool).scatter(0, order_V, reached_before_V >= top_p)
    return logits_V.masked_fill(drop_V, float("-inf"))


def choose_token(
    logits_V: Tensor, seen_ids: list[int], settings: SamplingSettings, generator: torch.Generator
) -> int:
    """Choose the next token.

    Args:
        logits_V: Scores of the next token, any float dtype, any device.
        seen_ids: Token ids of the prompt and the answer so far.
        settings: How to choose; a temperature of 0 takes the largest score.
        generator: The request's own CPU generator; advanced by one draw, untouched when greedy.

    Returns:
        The id of the chosen token.

    Raises:
        SparseMoEError: The model returned NaN.
    """
    scores_V = logits_V.detach().to(device="cpu", dtype=torch.float32)
    if bool(torch.isnan(scores_V).any()):
        raise SparseMoEError(
            "the model returned NaN logits; its weights are damaged or overflow in this dtype"
        )
    scores_V = penalise_repetition(scores_V, seen_ids, settings.repetition_penalty)
    if settings.temperature == 0.0:
        return int(scores_V.argmax())
    # Largest score first brought to 0: a tiny temperature then gives minus infinity, never NaN.
    scores_V = keep_top_k((scores_V - scores_V.max()) / settings.temperature, settings.top_k)
    probability_V = keep_top_p(scores_V, settings.top_p).softmax(dim=-1)
    return int(torch.multinomial(probability_V, 1, generator=generator))
