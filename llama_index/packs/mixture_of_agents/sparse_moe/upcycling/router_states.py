"""What a dense model's layers would hand to a router: the hidden states before each feed-forward network.

The model runs from its source, one layer in memory at a time, all texts in one batch. It knows neither
text nor what is done with the states.

Shapes: B texts, S longest text, T real tokens without the first of each text, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.dense_source import DenseSource

Visit = Callable[[int, Tensor], None]


def visit_states(dense: DenseSource, texts: Sequence[Sequence[int]], visit: Visit) -> None:
    """Run texts through the model and show what enters each layer's feed-forward network.

    The first token of a text is left out: attention parks on it, and its state is like no other's.

    Args:
        dense: The model.
        texts: Token ids of each.
        visit: Called with the number of a layer and its states_TD (float32), layer after layer.

    Raises:
        ConfigurationError: The states are not finite, so the weights are damaged.
    """
    ids_BS, real_BS = _padded(texts)
    counted_BS = real_BS.clone()
    counted_BS[:, 0] = False
    model = _hollow_model(dense)
    for index, layer in enumerate(model.layers):
        _fill_while_running(layer, dense, index)
        layer.post_attention_layernorm.register_forward_hook(
            lambda _module, _inputs, output, index=index: visit(
                index, _finite(output[counted_BS], index, dense)
            )
        )
    embedded_BSD = embedding(ids_BS, dense.read("model.embed_tokens.weight")).float()
    with torch.no_grad():
        model(inputs_embeds=embedded_BSD, attention_mask=real_BS.long(), use_cache=False)


def _padded(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    ids_BS = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
    real_BS = torch.zeros_like(ids_BS, dtype=torch.bool)
    for row, ids in enumerate(texts):
        ids_BS[row, : len(ids)] = torch.tensor(ids)
        real_BS[row, : len(ids)] = True
    return ids_BS, real_BS


def _hollow_model(dense: DenseSource) -> Any:
    """Build the model without weights, and without the parts that are not needed."""
    from transformers import AutoModel

    config = deepcopy(dense.config)
    with torch.device("meta"):
        model: Any = AutoModel.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()
    # Its tables are computed from the config, which a model on the meta device has not done.
    model.rotary_emb = type(model.rotary_emb)(config=config)
    model.norm = nn.Identity()
    return model


def _fill_while_running(layer: nn.Module, dense: DenseSource, index: int) -> None:
    names = list(layer.state_dict())

    def fill(module: nn.Module, _inputs: object) -> None:
        weights = {name: dense.read(f"model.layers.{index}.{name}").float() for name in names}
        module.load_state_dict(weights, assign=True)

    def empty(module: nn.Module, _inputs: object, _output: object) -> None:
        module.to_empty(device="meta")

    layer.register_forward_pre_hook(fill)
    layer.register_forward_hook(empty)


def _finite(states_TD: Tensor, layer: int, dense: DenseSource) -> Tensor:
    if not bool(states_TD.isfinite().all()):
        raise ConfigurationError(
            f"the hidden states of {dense.origin} in layer {layer} are not finite; its weights are damaged, "
            "download it again"
        )
    return states_TD
