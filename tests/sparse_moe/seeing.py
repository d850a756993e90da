"""A recorder that keeps what every layer did, and forward passes to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from llama_index.packs.mixture_of_agents.sparse_moe.experts import routed
from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import MoELayer, find_moe_layers
from llama_index.packs.mixture_of_agents.sparse_moe.plans import ForwardPlan, LayerRouting, plan_sequences
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings


class Seen:
    """Keeps every layer's routing, in order."""

    def __init__(self) -> None:
        self.layers: list[MoELayer] = []
        self.routings: list[LayerRouting] = []

    def observe(self, layer: MoELayer, routing: LayerRouting, plan: ForwardPlan) -> None:
        self.layers.append(layer)
        self.routings.append(routing)


def random_ids(rows: int, tokens: int, vocabulary: int = 100, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, vocabulary, (rows, tokens), generator=generator)


def stock_logits(model: PreTrainedModel, ids_BS: Tensor) -> Tensor:
    """What the model says by itself, its experts computed by transformers' eager forward."""
    own = model.config._experts_implementation
    model.set_experts_implementation("eager")
    try:
        with torch.no_grad():
            logits: Tensor = model(ids_BS).logits
    finally:
        model.set_experts_implementation(own)
    return logits


def routed_logits(
    model: PreTrainedModel,
    ids_BS: Tensor,
    settings: RoutingSettings | None = None,
    recorder: Seen | None = None,
    prompt_lengths: Sequence[int] | None = None,
) -> Tensor:
    """What it says with its experts routed by our settings; unless told otherwise all tokens are prompt."""
    rows, tokens = ids_BS.shape
    plan = plan_sequences(
        [range(tokens)] * rows,
        prompt_lengths or [tokens] * rows,
        settings or RoutingSettings(),
        ids_BS.device,
        recorder,
    )
    with torch.no_grad(), routed(find_moe_layers(model), plan):
        logits: Tensor = model(ids_BS).logits
    return logits
