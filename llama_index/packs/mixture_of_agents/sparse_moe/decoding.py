"""One step of one request: feed what is pending, get the next token.

Each request has its own key-value cache and its own random generator, so its tokens do not depend on
who decodes beside it. Padded batches, chunked prefill and shared prefixes are to come; they replace
`next_token`, not its callers. This file knows neither threads nor text.

Shapes: S tokens fed in this step, V vocabulary; the leading 1 is the batch of one.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from llama_index.packs.mixture_of_agents.sparse_moe.requests import FinishReason, GenerationRequest
from llama_index.packs.mixture_of_agents.sparse_moe.sampling import choose_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class DecodingState:
    """What one request carries from step to step.

    Args:
        request: What was asked.
        model: The model that will continue it; its config decides the kind of cache per layer.
    """

    def __init__(self, request: GenerationRequest, model: PreTrainedModel) -> None:
        self.request = request
        self.token_ids = list(request.prompt_ids)
        self.pending_ids = list(request.prompt_ids)
        self.cache = DynamicCache(config=model.config)
        self.generator = seeded_generator(request.sampling.seed)
        # The whole prompt's logits would be S x V floats, of which only the last row is wanted.
        self.forward_options = {"logits_to_keep": 1} if _can_keep_last_logits(model) else {}

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - len(self.request.prompt_ids)


def seeded_generator(seed: int | None) -> torch.Generator:
    """Make a CPU generator of its own, with the given seed or a fresh one; the global one is untouched."""
    generator = torch.Generator(device="cpu")
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def _can_keep_last_logits(model: PreTrainedModel) -> bool:
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def next_token(model: PreTrainedModel, state: DecodingState) -> int:
    """Run the model once and choose the next token: the prompt on the first call, one token after.

    Args:
        model: A causal language model in eval mode.
        state: The request's state, advanced in place.

    Returns:
        The chosen token id.

    Raises:
        SparseMoEError: The model returned NaN.
    """
    # Not inference_mode: tables that a model keeps for itself would stay unusable for its owner's autograd.
    with torch.no_grad():
        ids_1S = torch.tensor([state.pending_ids], dtype=torch.long, device=model.device)
        output = model(input_ids=ids_1S, past_key_values=state.cache, use_cache=True, **state.forward_options)
        logits_V = output.logits[0, -1]
        token_id = choose_token(logits_V, state.token_ids, state.request.sampling, state.generator)
    state.token_ids.append(token_id)
    state.pending_ids = [token_id]
    return token_id


def finish_reason(request: GenerationRequest, token_id: int, completion_tokens: int) -> FinishReason | None:
    """Tell whether the answer ends with this token, and why; None means go on."""
    if token_id in request.stop_ids:
        return "stop"
    return "length" if completion_tokens >= request.max_new_tokens else None
