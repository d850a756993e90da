"""A model takes our experts forward for one pass, and is then as it was."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from transformers import MixtralForCausalLM, PreTrainedModel

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.experts import check_routing, routed
from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import find_moe_layers
from llama_index.packs.mixture_of_agents.sparse_moe.plans import ForwardPlan, plan_sequences
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from tests.sparse_moe import tiny_models
from tests.sparse_moe.seeing import Seen, random_ids, routed_logits, stock_logits

TIGHT = RoutingSettings(capacity_factor=0.5, capacity_block=8)
REROUTE = RoutingSettings(capacity_factor=0.75, capacity_block=8, overflow="reroute")
IDS = random_ids(2, 24)


def traces(model: PreTrainedModel) -> list[Any]:
    """Everything about the modules that attaching might change."""
    return [
        (name, {key: id(value) for key, value in module.__dict__.items()}, len(module._forward_hooks))
        for name, module in model.named_modules()
    ]


def test_layers_are_found_in_order(model: MixtralForCausalLM) -> None:
    layers = find_moe_layers(model)
    assert [(layer.index, layer.name) for layer in layers] == [
        (0, "model.layers.0.mlp"),
        (1, "model.layers.1.mlp"),
    ]
    assert all((layer.num_experts, layer.top_k, layer.width) == (4, 2, 32) for layer in layers)
    assert all(type(layer.router).__name__ == "MixtralTopKRouter" for layer in layers)


def test_a_dense_model_has_none() -> None:
    with pytest.raises(ConfigurationError, match="LlamaForCausalLM does not take transformers' experts"):
        find_moe_layers(tiny_models.tiny_llama())


def test_experts_spread_over_processes_are_refused(model: MixtralForCausalLM) -> None:
    spread = copy.deepcopy(model)
    spread.model.layers[1].mlp.experts._is_expert_parallel = True
    with pytest.raises(ConfigurationError, match=r"experts of model.layers.1.mlp are spread"):
        find_moe_layers(spread)


def test_without_settings_nothing_changes(model: MixtralForCausalLM) -> None:
    assert (routed_logits(model, IDS) - stock_logits(model, IDS)).abs().max() < 1e-4


@pytest.mark.parametrize("routing", [TIGHT, REROUTE, RoutingSettings(top_k=1)])
def test_settings_change_something(model: MixtralForCausalLM, routing: RoutingSettings) -> None:
    assert (routed_logits(model, IDS, routing) - stock_logits(model, IDS)).abs().max() > 0.1


@pytest.mark.parametrize("routing", [RoutingSettings(), TIGHT, REROUTE, RoutingSettings(top_k=3)])
def test_the_model_is_then_as_it_was(routing: RoutingSettings) -> None:
    model = tiny_models.tiny_mixtral()
    before, weights = traces(model), copy.deepcopy(model.state_dict())
    routed_logits(model, IDS, routing, Seen())
    assert traces(model) == before
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert torch.equal(stock_logits(again, IDS), stock_logits(model, IDS))


def test_it_is_as_it_was_after_a_failure_too() -> None:
    model = tiny_models.tiny_mixtral()
    before, layers = traces(model), find_moe_layers(model)
    plan = plan_sequences([range(3)], [3], RoutingSettings(), "cpu")
    complaint = r"plan is for 3 tokens, but 48 reached model\.layers\.0\.mlp"
    with pytest.raises(SparseMoEError, match=complaint), routed(layers, plan):
        model(IDS)
    assert traces(model) == before


def test_a_copy_made_meanwhile_is_stock(model: MixtralForCausalLM) -> None:
    plan = plan_sequences([range(24)] * 2, [24] * 2, TIGHT, "cpu")
    with routed(find_moe_layers(model), plan):
        copied = copy.deepcopy(model)
        configs = {id(layer.mlp.experts.config) for layer in copied.model.layers}
    assert configs == {id(copied.config)}
    assert torch.equal(stock_logits(copied, IDS), stock_logits(model, IDS))


def test_two_models_of_one_config_with_two_settings() -> None:
    """Models made from one config object share it; the settings must not be on it."""
    one = tiny_models.tiny_mixtral()
    two = MixtralForCausalLM(one.config).eval()
    alone = routed_logits(one, IDS, TIGHT), routed_logits(two, IDS, REROUTE)
    plans = [plan_sequences([range(24)] * 2, [24] * 2, routing, "cpu") for routing in (TIGHT, REROUTE)]
    with torch.no_grad(), routed(find_moe_layers(one), plans[0]):
        stock = two(IDS).logits
        with routed(find_moe_layers(two), plans[1]):
            inner = two(IDS).logits
        outer = one(IDS).logits
    assert torch.equal(stock, two(IDS).logits)
    assert torch.equal(outer, alone[0])
    assert torch.equal(inner, alone[1])


def test_another_thread_meanwhile_gets_the_stock_model(model: MixtralForCausalLM) -> None:
    stock, answers = stock_logits(model, IDS), []

    def call() -> None:
        with torch.no_grad():
            answers.append(model(IDS).logits)

    plan = plan_sequences([range(24)] * 2, [24] * 2, RoutingSettings(top_k=1), "cpu", Seen())
    with routed(find_moe_layers(model), plan):
        other = threading.Thread(target=call)
        other.start()
        other.join()
    assert (answers[0] - stock).abs().max() < 1e-4


def test_threads_may_overlap_on_one_model(model: MixtralForCausalLM) -> None:
    """The first to leave must not take the model away from the other."""
    layers, before = find_moe_layers(model), traces(model)
    alone = {top_k: routed_logits(model, IDS, RoutingSettings(top_k=top_k)) for top_k in (1, 3)}
    inside, left = threading.Barrier(2), threading.Event()
    answers: dict[int, torch.Tensor] = {}

    def run(top_k: int) -> None:
        plan = plan_sequences([range(24)] * 2, [24] * 2, RoutingSettings(top_k=top_k), "cpu")
        with torch.no_grad(), routed(layers, plan):
            inside.wait(10)
            if top_k == 1:
                assert left.wait(10)
            answers[top_k] = model(IDS).logits
        if top_k == 3:
            left.set()

    threads = [threading.Thread(target=run, args=(top_k,)) for top_k in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(answers[top_k], alone[top_k]) for top_k in (1, 3))
    assert traces(model) == before


def test_within_a_pass_an_inner_one_counts(model: MixtralForCausalLM) -> None:
    layers, inner_alone = find_moe_layers(model), routed_logits(model, IDS, RoutingSettings(top_k=1))
    outer_alone = routed_logits(model, IDS, TIGHT)
    plans = [
        plan_sequences([range(24)] * 2, [24] * 2, routing, "cpu")
        for routing in (TIGHT, RoutingSettings(top_k=1))
    ]
    with torch.no_grad(), routed(layers, plans[0]):
        with routed(layers, plans[1]):
            inner = model(IDS).logits
        outer = model(IDS).logits
    assert torch.equal(inner, inner_alone)
    assert torch.equal(outer, outer_alone)


def test_only_some_layers_may_be_routed(model: MixtralForCausalLM) -> None:
    seen, layers = Seen(), find_moe_layers(model)
    plan = plan_sequences([range(24)] * 2, [24] * 2, TIGHT, "cpu", seen)
    with torch.no_grad(), routed(layers[1:], plan):
        model(IDS)
    assert [layer.index for layer in seen.layers] == [1]


@pytest.mark.parametrize("top_k", [1, 3, 4])
def test_top_k_is_that_of_a_model_made_so(model: MixtralForCausalLM, top_k: int) -> None:
    other = tiny_models.tiny_mixtral(num_experts_per_tok=top_k)
    other.load_state_dict(model.state_dict())
    routing = RoutingSettings(top_k=top_k)
    check_routing(find_moe_layers(model), routing)
    assert (routed_logits(model, IDS, routing) - stock_logits(other, IDS)).abs().max() < 1e-4


def test_top_k_beyond_the_experts_is_refused(model: MixtralForCausalLM) -> None:
    with pytest.raises(ConfigurationError, match="top_k is 5, but the model has 4 experts"):
        check_routing(find_moe_layers(model), RoutingSettings(top_k=5))


def test_a_router_that_ignores_top_k_is_noticed_while_running(
    model: MixtralForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = model.model.layers[0].mlp.gate
    # The copy shares this bound method, which goes on reading the original's top_k.
    monkeypatch.setitem(router.__dict__, "forward", router.forward)
    with pytest.raises(SparseMoEError, match=r"layers.0.mlp was asked for 3 experts per token and chose 2"):
        routed_logits(model, IDS, RoutingSettings(top_k=3))


def test_a_recorder_sees_every_layer_and_costs_no_difference(model: MixtralForCausalLM) -> None:
    seen = Seen()
    with_recorder = routed_logits(model, IDS, REROUTE, seen)
    assert torch.equal(with_recorder, routed_logits(model, IDS, REROUTE))
    assert [layer.index for layer in seen.layers] == [0, 1]
    for routing in seen.routings:
        assert routing.logits_TE is not None
        assert routing.logits_TE.shape == (48, 4)
        # ceil(0.75 * 8 * 2 / 4)
        assert routing.capacity_G.tolist() == [3] * 6
        assert not (routing.rerouted_TK & ~routing.kept_TK).any()
        assert not routing.weights_TK[~routing.kept_TK].any()
        assert routing.rerouted_TK.any()


def test_a_recorder_without_limits_sees_everything_kept(model: MixtralForCausalLM) -> None:
    seen = Seen()
    routed_logits(model, IDS, recorder=seen)
    for routing in seen.routings:
        assert routing.kept_TK.all()
        assert not routing.rerouted_TK.any()
        assert routing.capacity_G.tolist() == [24, 24]


def test_padding_goes_nowhere_and_is_not_counted(model: MixtralForCausalLM) -> None:
    """Left padding, as a batch of unequal prompts has it."""
    ids = torch.cat([torch.full((1, 4), 2), IDS[:1, :12]], dim=1)
    mask = torch.tensor([[0] * 4 + [1] * 12])
    groups_T = torch.tensor([-1] * 4 + [0] * 8 + [1] * 4)
    seen = Seen()
    plan = ForwardPlan(TIGHT, groups_T, (8, 4), groups_T.clamp(max=0), seen)
    with torch.no_grad(), routed(find_moe_layers(model), plan):
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        padded = model(ids, attention_mask=mask, position_ids=positions).logits[:, 4:]
    alone = Seen()
    expected = routed_logits(model, IDS[:1, :12], TIGHT, alone)
    assert (padded - expected).abs().max() < 1e-4
    for beside, by_itself in zip(seen.routings, alone.routings, strict=True):
        assert not beside.kept_TK[:4].any()
        assert torch.equal(beside.kept_TK[4:], by_itself.kept_TK)


def test_padding_without_a_limit_goes_nowhere_either(model: MixtralForCausalLM) -> None:
    groups_T = torch.tensor([-1] * 20 + [0] * 28)
    seen = Seen()
    plan = ForwardPlan(RoutingSettings(), groups_T, (28,), groups_T, seen)
    with torch.no_grad(), routed(find_moe_layers(model), plan):
        model(IDS)
    assert all(torch.equal(routing.kept_TK[:, 0], groups_T >= 0) for routing in seen.routings)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), mates=st.integers(1, 3), overflow=st.sampled_from(["drop", "reroute"]))
def test_in_sequence_scope_batch_mates_do_not_matter(
    model: MixtralForCausalLM, seed: int, mates: int, overflow: str
) -> None:
    routing = RoutingSettings(capacity_factor=0.6, capacity_block=8, overflow=overflow)
    ids = random_ids(1 + mates, 20, seed=seed)
    alone, beside = Seen(), Seen()
    expected = routed_logits(model, ids[:1], routing, alone)
    together = routed_logits(model, ids, routing, beside)[:1]
    assert (together - expected).abs().max() < 1e-4
    for one, other in zip(alone.routings, beside.routings, strict=True):
        assert torch.equal(one.experts_TK, other.experts_TK[:20])
        assert torch.equal(one.kept_TK, other.kept_TK[:20])


def test_in_batch_scope_they_do(model: MixtralForCausalLM) -> None:
    routing = RoutingSettings(capacity_factor=0.6, capacity_scope="batch")
    alone, together = routed_logits(model, IDS[:1], routing), routed_logits(model, IDS, routing)[:1]
    assert (together - alone).abs().max() > 0.1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), length=st.integers(1, 30), overflow=st.sampled_from(["drop", "reroute"]))
def test_one_pass_and_chunks_of_whole_blocks_say_the_same(
    model: MixtralForCausalLM, seed: int, length: int, overflow: str
) -> None:
    routing = RoutingSettings(capacity_factor=0.6, capacity_block=4, overflow=overflow)
    ids, layers = random_ids(1, length, seed=seed), find_moe_layers(model)
    expected, cache, parts = routed_logits(model, ids, routing), None, []
    for start in range(0, length, 8):
        positions = range(start, min(start + 8, length))
        plan = plan_sequences([positions], [length], routing, "cpu")
        with torch.no_grad(), routed(layers, plan):
            output = model(ids[:, start : start + 8], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits)
    assert (torch.cat(parts, dim=1) - expected).abs().max() < 1e-4


def test_generated_tokens_are_never_limited(model: MixtralForCausalLM) -> None:
    seen = Seen()
    routed_logits(model, IDS, RoutingSettings(capacity_factor=0.01), seen, prompt_lengths=[0, 0])
    assert all(routing.kept_TK.all() for routing in seen.routings)
