"""The routers of an upcycled model, random or fitted to the hidden states of prompts.

It brings together texts, the dense model's states and k-means, and knows the inside of none of them.

Shapes: E experts, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.dense_source import DenseSource
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.divergence import stream
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.kmeans import loads, router_rows
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.recipe import UpcyclingRecipe
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.router_prompts import DEFAULT_PROMPTS
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.router_states import visit_states

_LONGEST_TEXT = 128
# All texts run as one batch, padded to the longest: this bounds the memory of the activations.
_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Routers:
    """One router for each layer, and what they were made of.

    Args:
        weights: weights_ED of each layer, float32.
        prompts: Texts they were fitted to; 0 if they are random.
        tokens: Tokens of these texts.
        worst_load: Largest load of an expert on these tokens, in the layer where it is largest, as a
            multiple of an even share; None if the routers are random.
    """

    weights: Sequence[Tensor]
    prompts: int = 0
    tokens: int = 0
    worst_load: float | None = None


def make_routers(
    dense: DenseSource, text_folder: Path, recipe: UpcyclingRecipe, tell: Callable[[str], None]
) -> Routers:
    """Make the routers that a recipe asks for.

    Args:
        dense: The model.
        text_folder: With its tokenizer.
        recipe: Random or k-means, prompts, seed.
        tell: Called at each layer of a fit.

    Raises:
        ConfigurationError: The prompts have fewer tokens than there are experts.
    """
    if recipe.router == "random":
        return Routers(_random_weights(dense, recipe))
    return _fitted(dense, _token_ids(text_folder, recipe.prompts or DEFAULT_PROMPTS), recipe, tell)


def _random_weights(dense: DenseSource, recipe: UpcyclingRecipe) -> list[Tensor]:
    """Small random rows: with zeros every token would tie, and the first experts would get them all."""
    generator = torch.Generator().manual_seed(recipe.seed)
    shape = (recipe.experts, dense.config.hidden_size)
    deviation = dense.config.initializer_range
    layers = range(dense.config.num_hidden_layers)
    return [torch.empty(shape).normal_(0.0, deviation, generator=generator) for _ in layers]


def _token_ids(text_folder: Path, prompts: Sequence[str]) -> list[list[int]]:
    """Tokenize the first part of each prompt; of more than the batch holds, take some from everywhere."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        str(text_folder), local_files_only=True, trust_remote_code=False
    )
    texts = [ids for prompt in prompts if (ids := list(tokenizer(prompt)["input_ids"])[:_LONGEST_TEXT])]
    room = min(len(texts), _BATCH_TOKENS // max(map(len, texts), default=1))
    return [texts[place * len(texts) // room] for place in range(room)]


def _fitted(
    dense: DenseSource, texts: list[list[int]], recipe: UpcyclingRecipe, tell: Callable[[str], None]
) -> Routers:
    tokens = sum(len(ids) - 1 for ids in texts)
    if tokens < recipe.experts:
        raise ConfigurationError(
            f"the prompts have {tokens} tokens after the first of each, which is less than "
            f"experts={recipe.experts}; give more or longer prompts"
        )
    weights: list[Tensor] = []
    largest: list[float] = []

    def fit(layer: int, states_TD: Tensor) -> None:
        rows_ED = router_rows(states_TD, recipe.experts, recipe.top_k, stream(recipe.seed, "router", layer))
        weights.append(rows_ED)
        largest.append(float(loads(states_TD @ rows_ED.T, recipe.top_k).max()))
        tell(f"router {layer + 1} of {dense.config.num_hidden_layers}")

    visit_states(dense, texts, fit)
    return Routers(weights, prompts=len(texts), tokens=tokens, worst_load=max(largest))
