"""The recorder counts what a slow loop counts, row by row, whatever the layers' shapes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.sparse_moe.plans import ForwardPlan, LayerRouting
from llama_index.packs.mixture_of_agents.sparse_moe.recording import RoutingRecorder
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.stats import LayerStats
from tests.sparse_moe.routings import LIMITED, layers_of, plan_of, random_routing, recorded

PLANS = st.builds(
    plan_of,
    st.lists(st.integers(-1, 3), max_size=12),
    st.sampled_from([LIMITED, RoutingSettings(capacity_factor=0.5), RoutingSettings()]),
)
EXPERTS = st.lists(st.integers(1, 7), min_size=1, max_size=4)


def looped(plan: ForwardPlan, routing: LayerRouting, experts: int, row: int) -> dict[str, object]:
    """One layer's totals of one row, token by token."""
    load, dropped, rerouted, entropies, capacities = [0] * experts, 0, 0, [], []
    tokens = [token for token, owner in enumerate(plan.rows_T.tolist()) if owner == row]
    for token in tokens:
        for slot, expert in enumerate(routing.experts_TK[token].tolist()):
            load[expert] += int(routing.kept_TK[token, slot])
            dropped += int(not routing.kept_TK[token, slot])
            rerouted += int(routing.rerouted_TK[token, slot])
        if routing.logits_TE is not None:
            shares = routing.logits_TE[token].double().softmax(-1).tolist()
            entropies.append(-sum(share * math.log(share) for share in shares if share > 0))
        capacities.append(int(routing.capacity_G[plan.groups_T[token]]))
    return {
        "tokens": len(tokens),
        "load": tuple(load),
        "dropped": dropped,
        "rerouted": rerouted,
        "entropy": pytest.approx(sum(entropies) / len(entropies), abs=1e-5) if entropies else None,
        "capacity": max(capacities, default=None) if plan.settings.limited else None,
    }


def counted(layer: LayerStats) -> dict[str, object]:
    names = ("tokens", "load", "dropped", "rerouted", "entropy", "capacity")
    return {name: getattr(layer, name) for name in names}


@settings(max_examples=60)
@given(PLANS, EXPERTS, st.integers(0, 1000), st.booleans())
def test_it_counts_what_a_loop_counts(plan: ForwardPlan, experts: list[int], seed: int, logits: bool) -> None:
    layers = layers_of(*experts)
    routings = [random_routing(layer, plan, seed + layer.index, logits=logits) for layer in layers]
    rows = recorded(layers, plan, routings).collect(4)
    assert len(rows) == 4
    for number, stats in enumerate(rows):
        for layer, routing, found in zip(layers, routings, stats.layers, strict=True):
            assert counted(found) == looped(plan, routing, layer.num_experts, number)
            assert found.kept + found.dropped == found.tokens * routing.experts_TK.shape[1]


@settings(max_examples=20)
@given(PLANS, EXPERTS, st.integers(0, 1000))
def test_padding_is_as_if_it_were_not_there(plan: ForwardPlan, experts: list[int], seed: int) -> None:
    real_T = plan.rows_T >= 0
    bare = ForwardPlan(plan.settings, plan.groups_T[real_T], plan.group_sizes, plan.rows_T[real_T])
    layers = layers_of(*experts)
    padded = [random_routing(layer, plan, seed) for layer in layers]
    stripped = [_only(routing, real_T) for routing in padded]
    with_padding = recorded(layers, plan, padded).collect(4)
    without = recorded(layers, bare, stripped).collect(4)
    assert [stats.to_dict() for stats in with_padding] == [stats.to_dict() for stats in without]


def _only(routing: LayerRouting, real_T: torch.Tensor) -> LayerRouting:
    assert routing.logits_TE is not None
    return LayerRouting(
        routing.experts_TK[real_T],
        routing.kept_TK[real_T],
        routing.rerouted_TK[real_T],
        routing.weights_TK[real_T],
        routing.logits_TE[real_T],
        routing.capacity_G,
    )


def test_each_collection_begins_anew() -> None:
    layers, plan = layers_of(4, 4), plan_of([0, 0, 1])
    routings = [random_routing(layer, plan, 0) for layer in layers]
    recorder = recorded(layers, plan, routings)
    first = recorder.collect(2)
    assert [stats.tokens for stats in recorder.collect(2)] == [0, 0]
    for layer, routing in zip(layers, routings, strict=True):
        recorder.observe(layer, routing, plan)
    assert [stats.to_dict() for stats in recorder.collect(2)] == [stats.to_dict() for stats in first]


def test_several_forwards_before_a_collection_add_up() -> None:
    layers = layers_of(4, 4)
    plans = [plan_of([0, 0, 1]), plan_of([1])]
    routings = [[random_routing(layer, plan, 7) for layer in layers] for plan in plans]
    together = RoutingRecorder(layers)
    for plan, of_plan in zip(plans, routings, strict=True):
        for layer, routing in zip(layers, of_plan, strict=True):
            together.observe(layer, routing, plan)
    apart = [recorded(layers, *both).collect(2) for both in zip(plans, routings, strict=True)]
    summed = [(one + other).to_dict() for one, other in zip(*apart, strict=True)]
    assert [stats.to_dict() for stats in together.collect(2)] == summed


def test_a_failed_forward_is_discarded() -> None:
    layers, plan = layers_of(4), plan_of([0])
    recorder = recorded(layers, plan, [random_routing(layers[0], plan, 0)])
    recorder.discard()
    assert recorder.observations == ()
    assert recorder.collect(1)[0].tokens == 0


def test_layers_that_say_nothing_count_nothing() -> None:
    layers, plan = layers_of(4, 3), plan_of([0, 0])
    recorder = RoutingRecorder(layers)
    recorder.observe(layers[1], random_routing(layers[1], plan, 0), plan)
    (stats,) = recorder.collect(1)
    assert [layer.tokens for layer in stats.layers] == [0, 2]
    assert (stats.layers[0].imbalance, stats.layers[0].entropy, stats.layers[0].capacity) == (
        None,
        None,
        None,
    )


def test_entropy_leaves_out_what_is_not_a_number() -> None:
    (layer,), plan = layers_of(2, top_k=1), plan_of([0, 0])
    routing = random_routing(layer, plan, 0)
    assert routing.logits_TE is not None
    routing.logits_TE[0] = torch.tensor([math.nan, 0.0])
    routing.logits_TE[1] = torch.tensor([0.0, -math.inf])
    (stats,) = recorded([layer], plan, [routing]).collect(1)
    assert stats.layers[0].entropy == 0


def test_half_precision_logits_are_judged_in_full() -> None:
    (layer,), plan = layers_of(64), plan_of([0])
    routing = random_routing(layer, plan, 0)
    assert routing.logits_TE is not None
    flat = LayerRouting(**{**vars(routing), "logits_TE": torch.zeros(1, 64, dtype=torch.bfloat16)})
    (stats,) = recorded([layer], plan, [flat]).collect(1)
    assert stats.layers[0].entropy == pytest.approx(math.log(64), abs=1e-6)
    assert stats.layers[0].relative_entropy == pytest.approx(1, abs=1e-6)
