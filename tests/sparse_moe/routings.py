"""Routings made up for tests: layers without a model, and who went where in them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import MoELayer
from llama_index.packs.mixture_of_agents.sparse_moe.plans import ForwardPlan, LayerRouting
from llama_index.packs.mixture_of_agents.sparse_moe.recording import RoutingRecorder
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings, capacity_of

LIMITED = RoutingSettings(capacity_factor=1.0, overflow="reroute")


def layers_of(*experts: int, top_k: int = 2) -> tuple[MoELayer, ...]:
    """Layers with so many experts each; they compute nothing."""
    nothing = nn.Identity()
    return tuple(
        MoELayer(index, f"model.layers.{index}.mlp", nothing, None, count, top_k, nothing)
        for index, count in enumerate(experts)
    )


def plan_of(rows: Sequence[int], settings: RoutingSettings = LIMITED) -> ForwardPlan:
    """A plan in which each row is one capacity group; -1 is padding."""
    rows_T = torch.tensor(rows, dtype=torch.long)
    sizes = tuple(rows.count(row) for row in range(max(rows, default=-1) + 1))
    return ForwardPlan(settings, rows_T, sizes, rows_T)


def random_routing(layer: MoELayer, plan: ForwardPlan, seed: int, *, logits: bool = True) -> LayerRouting:
    """Somebody went somewhere: distinct experts per token, some dropped, some rerouted."""
    generator = torch.Generator().manual_seed(seed)
    tokens, experts, top_k = plan.rows_T.numel(), layer.num_experts, min(layer.top_k, layer.num_experts)
    logits_TE = torch.randn(tokens, experts, generator=generator) * 3
    weights_TK, experts_TK = logits_TE.softmax(-1).topk(top_k)
    kept_TK = (torch.rand(tokens, top_k, generator=generator) < 0.7) & (plan.rows_T >= 0)[:, None]
    rerouted_TK = kept_TK & (torch.rand(tokens, top_k, generator=generator) < 0.3)
    sizes = [capacity_of(size, top_k, experts, plan.settings) for size in plan.group_sizes]
    return LayerRouting(
        experts_TK,
        kept_TK,
        rerouted_TK if plan.settings.reroutes else torch.zeros_like(kept_TK),
        weights_TK * kept_TK,
        logits_TE if logits else None,
        torch.tensor(sizes, dtype=torch.long),
    )


def recorded(
    layers: Sequence[MoELayer], plan: ForwardPlan, routings: Sequence[LayerRouting]
) -> RoutingRecorder:
    """A recorder that was told of a forward."""
    recorder = RoutingRecorder(layers)
    for layer, routing in zip(layers, routings, strict=True):
        recorder.observe(layer, routing, plan)
    return recorder
