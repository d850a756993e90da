"""Our own layer against a slow and obvious oracle, and against Mixtral's block.

Shapes: B sequences, S tokens each, T tokens, D model width, E experts, K experts per token.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.layer import SparseMoELayer
from tests.sparse_moe.layer_oracle import oracle
from tests.sparse_moe.tiny_models import tiny_mixtral


def make_layer(experts: int = 4, top_k: int = 2, *, seed: int = 0, **options: Any) -> SparseMoELayer:
    torch.manual_seed(seed)
    return SparseMoELayer(6, 5, experts, top_k, **options)


def draw_hidden(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, 6, generator=torch.Generator().manual_seed(seed))


@st.composite
def cases(draw: st.DrawFn) -> tuple[SparseMoELayer, Tensor, Tensor]:
    experts = draw(st.integers(1, 5))
    layer = make_layer(
        experts,
        draw(st.integers(1, experts)),
        seed=draw(st.integers(0, 99)),
        kind=draw(st.sampled_from(["swiglu", "relu"])),
        capacity_factor=draw(st.sampled_from([None, 0.25, 0.5, 1.0, 1.25])),
        min_capacity=draw(st.sampled_from([1, 1, 2])),
        overflow=draw(st.sampled_from(["drop", "reroute"])),
        capacity_scope=draw(st.sampled_from(["batch", "sequence"])),
        capacity_block=draw(st.integers(1, 4)),
        capacity_priority=draw(st.sampled_from(["weight", "position"])),
        renormalize=draw(st.booleans()),
    ).double()
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    hidden_BSD = draw_hidden(rows, columns, seed=draw(st.integers(0, 99))).double()
    if draw(st.booleans()):
        # Everybody wants the same experts, though not equally much.
        hidden_BSD = hidden_BSD[:1, :1] * torch.linspace(1, 2, rows * columns).view(rows, columns, 1)
    real = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    return layer, hidden_BSD, torch.tensor(real).view(rows, columns)


@given(cases())
@settings(max_examples=150)
def test_it_does_what_the_oracle_does(case: tuple[SparseMoELayer, Tensor, Tensor]) -> None:
    layer, hidden_BSD, real_BS = case
    output_BSD, routing = layer(hidden_BSD, real_BS)
    expected_BSD, seats = oracle(layer, hidden_BSD.numpy(), real_BS.numpy())
    np.testing.assert_allclose(output_BSD.detach().numpy(), expected_BSD, atol=1e-9)
    assert routing.kept_TK.flatten().tolist() == [seat.kept for seat in seats]
    assert routing.rerouted_TK.flatten().tolist() == [seat.rerouted for seat in seats]
    assert routing.experts_TK.flatten().tolist() == [seat.expert for seat in seats]
    assert (
        routing.load.tolist()
        == np.bincount(
            [seat.expert for seat in seats if seat.kept], minlength=len(layer.gate.weight)
        ).tolist()
    )


@pytest.mark.parametrize("kind", ["swiglu", "relu"])
def test_without_a_limit_it_is_all_experts_weighted(kind: str) -> None:
    layer, hidden_BSD = make_layer(kind=kind), draw_hidden(2, 7)
    output_BSD, routing = layer(hidden_BSD)
    hidden_TD = hidden_BSD.view(14, 6)
    everything_TED = torch.stack([layer.experts(expert, hidden_TD) for expert in range(4)], dim=1)
    best = layer.gate(hidden_TD, [14], layer.settings).probabilities_TE.topk(2)
    weights_TE = torch.zeros(14, 4).scatter(1, best.indices, best.values / best.values.sum(1, keepdim=True))
    torch.testing.assert_close(output_BSD.view(14, 6), (weights_TE.unsqueeze(-1) * everything_TED).sum(1))
    assert (routing.dropped_share, routing.capacity_G.tolist()) == (0.0, [14])


def test_with_mixtrals_weights_it_gives_mixtrals_output() -> None:
    block: Any = tiny_mixtral().model.layers[1].mlp
    layer = SparseMoELayer(32, 48, 4, 2)
    layer.load_state_dict(block.state_dict())
    hidden_BSD = torch.randn(3, 11, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(layer(hidden_BSD)[0], block(hidden_BSD.clone()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "relu", "capacity_factor": 0.5},
        {"capacity_factor": 0.75, "overflow": "reroute", "renormalize": True},
        {"capacity_factor": 0.5, "renormalize": True},
    ],
    ids=str,
)
def test_gradients_are_those_of_the_function(options: dict[str, Any]) -> None:
    layer = make_layer(**options).double()
    hidden_BSD = draw_hidden(1, 5).double().requires_grad_()
    names, values = zip(*layer.named_parameters(), strict=True)

    def outcome(hidden_BSD: Tensor, *values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights = dict(zip(names, values, strict=True))
        output_BSD, routing = torch.func.functional_call(layer, weights, (hidden_BSD,))
        return output_BSD, routing.load_balancing_loss, routing.router_z_loss

    assert torch.autograd.gradcheck(outcome, (hidden_BSD, *values))


def test_only_experts_that_were_asked_learn() -> None:
    layer = make_layer(top_k=1)
    output_BSD, routing = layer(draw_hidden(1, 1))
    output_BSD.square().sum().backward()
    (asked,) = routing.experts_TK.flatten().tolist()
    learned = [bool(gradient.any()) for gradient in grad(layer.experts.down_proj)]
    assert learned == [expert == asked for expert in range(4)]
    assert grad(layer.gate.weight).any(), "the gate learns through the combine weight, even of one expert"


def test_a_weight_that_is_always_one_teaches_the_gate_nothing() -> None:
    layer = make_layer(top_k=1, normalize=True)
    layer(draw_hidden(1, 9))[0].square().sum().backward()
    assert grad(layer.gate.weight).abs().max() < 1e-6


def test_a_token_that_keeps_no_expert_gets_zeros_and_finite_gradients() -> None:
    layer = make_layer(1, 1, capacity_factor=0.25, renormalize=True)
    hidden_BSD = draw_hidden(1, 4).requires_grad_()
    output_BSD, routing = layer(hidden_BSD)
    assert (routing.dropped_share, routing.load.tolist()) == (0.75, [1])
    assert [bool(row.any()) for row in output_BSD[0]] == [True, False, False, False]
    output_BSD.square().sum().backward()
    assert all(torch.isfinite(grad(value)).all() for value in [hidden_BSD, *layer.parameters()])


def grad(value: Any) -> Tensor:
    gradient: Tensor = value.grad
    return gradient


def test_padding_changes_nothing_and_gets_zeros() -> None:
    layer = make_layer(capacity_factor=0.5, capacity_scope="sequence", capacity_block=3)
    alone_BSD, alone = layer(draw_hidden(1, 5))
    padded_BSD = torch.full((2, 8, 6), 1e3)
    padded_BSD[0, 2:7] = draw_hidden(1, 5)
    real_BS = torch.zeros(2, 8, dtype=torch.bool)
    real_BS[0, 2:7] = True
    output_BSD, routing = layer(padded_BSD, real_BS)
    torch.testing.assert_close(output_BSD[0, 2:7], alone_BSD[0])
    assert not output_BSD[~real_BS].any()
    assert torch.equal(routing.kept_TK, alone.kept_TK)
    torch.testing.assert_close(routing.load_balancing_loss, alone.load_balancing_loss)


def test_nothing_but_padding() -> None:
    layer = make_layer(capacity_factor=1.0)
    output_BSD, routing = layer(draw_hidden(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    assert not output_BSD.any()
    assert (routing.dropped_share, routing.load.tolist()) == (0.0, [0, 0, 0, 0])
    (routing.load_balancing_loss + routing.router_z_loss).backward()
    assert not grad(layer.gate.weight).any()


def test_a_forward_leaves_nothing_behind() -> None:
    layer, hidden_BSD = make_layer(capacity_factor=0.5), draw_hidden(2, 5)
    before = [set(vars(module)) for module in layer.modules()]
    first_BSD, _ = layer(hidden_BSD)
    assert [set(vars(module)) for module in layer.modules()] == before
    assert torch.equal(copy.deepcopy(layer)(hidden_BSD)[0], first_BSD)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(hidden_BSD)[0], first_BSD)


def test_integers_are_detached_and_floats_are_not() -> None:
    _, routing = make_layer(capacity_factor=0.5, overflow="reroute")(draw_hidden(2, 5))
    floats = {name for name, value in vars(routing).items() if value.requires_grad}
    assert floats == {"logits_TE", "probabilities_TE", "weights_TK"}


def test_half_precision_comes_back_as_it_went_in() -> None:
    output_BSD, routing = make_layer().bfloat16()(draw_hidden(1, 4).bfloat16())
    assert (output_BSD.dtype, routing.probabilities_TE.dtype) == (torch.bfloat16, torch.float32)


def test_settings_may_change_between_forwards() -> None:
    layer, hidden_BSD = make_layer(), draw_hidden(1, 8)
    layer.settings = replace(layer.settings, top_k=3, capacity_factor=0.5)
    _, routing = layer(hidden_BSD)
    assert (routing.experts_TK.shape, routing.capacity_G.tolist()) == ((8, 3), [3])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_k": 5}, "top_k=5 is not valid; it must be a whole number from 1 to 4, the number of experts"),
        ({"top_k": None}, "top_k=None"),
        ({"top_k": 0}, "top_k"),
        ({"experts": 0}, "experts=0"),
        ({"kind": "gelu"}, "kind='gelu' is not valid; it must be 'swiglu' or 'relu'"),
        ({"normalize": "yes"}, "normalize='yes'"),
        ({"capacity_factor": 0}, "capacity_factor"),
        ({"overflow": "queue"}, "overflow"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make_layer(**options)


@pytest.mark.parametrize(
    ("hidden", "real", "said"),
    [
        (torch.zeros(3, 6), None, r"shape \(3, 6\); they must be \(batch, sequence, 6\)"),
        (torch.zeros(1, 3, 5), None, r"shape \(1, 3, 5\)"),
        (torch.zeros(1, 3, 6), torch.ones(1, 2, dtype=torch.bool), r"it must be bool of the shape \(1, 3\)"),
        (torch.zeros(1, 3, 6), torch.ones(1, 3), r"real_BS is torch.float32"),
    ],
    ids=["two dimensions", "another width", "another mask", "a mask of numbers"],
)
def test_other_shapes_are_refused(hidden: Tensor, real: Tensor | None, said: str) -> None:
    with pytest.raises(SparseMoEError, match=said):
        make_layer()(hidden, real)
