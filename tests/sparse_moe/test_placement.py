"""The weights that go with a placement, and where rerouted assignments are allowed to go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.capacity import Placement
from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import MoELayer, find_moe_layers
from llama_index.packs.mixture_of_agents.sparse_moe.placement import place, placed_weights
from llama_index.packs.mixture_of_agents.sparse_moe.plans import plan_sequences
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from tests.sparse_moe import architectures, tiny_models
from tests.sparse_moe.random_choices import Choice, choice_of

REROUTE = RoutingSettings(capacity_factor=1.0, overflow="reroute")
# Two tokens, three of the four experts scored well; the first expert is wanted by both.
LOGITS = torch.tensor([[3.0, 2.0, 1.0, 0.0], [2.5, 0.0, 2.0, 1.0]])


@pytest.fixture(scope="module")
def mixtral() -> MoELayer:
    return find_moe_layers(tiny_models.tiny_mixtral())[0]


@pytest.fixture
def choice() -> Choice:
    return choice_of(LOGITS, 2, [0, 0])


def placed(kept: list[list[bool]], experts: Tensor, rerouted: list[list[bool]] | None = None) -> Placement:
    kept_TK = torch.tensor(kept)
    return Placement(experts, kept_TK, torch.tensor(rerouted) if rerouted else torch.zeros_like(kept_TK))


def test_dropped_weighs_nothing_and_the_rest_stays(mixtral: MoELayer, choice: Choice) -> None:
    placement = placed([[True, False], [True, True]], choice.experts_TK)
    weights_TK = placed_weights(mixtral, placement, choice.experts_TK, choice.weights_TK, None)
    assert weights_TK[0, 1] == 0
    assert torch.equal(weights_TK[placement.kept_TK], choice.weights_TK[placement.kept_TK])


def test_what_a_token_keeps_can_be_rescaled(mixtral: MoELayer, choice: Choice) -> None:
    placement = placed([[True, False], [True, True]], choice.experts_TK)
    weights_TK = placed_weights(
        mixtral, placement, choice.experts_TK, choice.weights_TK, None, renormalize=True
    )
    torch.testing.assert_close(weights_TK.sum(1), choice.weights_TK.sum(1))
    assert torch.equal(weights_TK[1], choice.weights_TK[1])


def test_a_token_that_loses_everything_is_not_rescaled(mixtral: MoELayer, choice: Choice) -> None:
    placement = placed([[False, False], [True, True]], choice.experts_TK)
    weights_TK = placed_weights(
        mixtral, placement, choice.experts_TK, choice.weights_TK, None, renormalize=True
    )
    assert torch.equal(weights_TK[0], torch.zeros(2))


def test_a_rerouted_weight_is_the_new_experts_share(mixtral: MoELayer, choice: Choice) -> None:
    """Of Mixtral's softmax, over the sum of the two experts that the router chose."""
    experts_TK = choice.experts_TK.clone()
    experts_TK[0, 1] = 3
    placement = placed([[True, True]] * 2, experts_TK, [[False, True], [False, False]])
    weights_TK = placed_weights(mixtral, placement, choice.experts_TK, choice.weights_TK, LOGITS)
    share_E = LOGITS[0].softmax(-1)
    torch.testing.assert_close(
        weights_TK[0, 1], choice.weights_TK[0, 1] * share_E[3] / share_E[choice.experts_TK[0, 1]]
    )
    assert weights_TK[0, 0] == choice.weights_TK[0, 0]
    assert torch.equal(weights_TK[1], choice.weights_TK[1])


def test_without_scores_nothing_is_rerouted(mixtral: MoELayer, choice: Choice) -> None:
    plan = plan_sequences([range(2)], [2], REROUTE, "cpu")
    with pytest.raises(SparseMoEError, match=r"router of model.layers.0.mlp did not say"):
        place(mixtral, plan, [1], choice.experts_TK, choice.weights_TK, None)


def test_where_everything_fits_scores_are_not_needed(mixtral: MoELayer) -> None:
    choice = choice_of(torch.tensor([[3.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 3.0]]), 2, [0, 0])
    plan = plan_sequences([range(2)], [2], REROUTE, "cpu")
    placement = place(mixtral, plan, [1], choice.experts_TK, choice.weights_TK, None)
    assert placement is not None
    assert placement.kept_TK.all()


def test_a_limit_that_cannot_bind_costs_no_plan(mixtral: MoELayer, choice: Choice) -> None:
    plan = plan_sequences([range(2)], [2], REROUTE, "cpu")
    assert place(mixtral, plan, [2], choice.experts_TK, choice.weights_TK, LOGITS) is None


def test_rerouting_stays_within_the_tokens_groups_of_experts() -> None:
    """DeepSeek-V3: two of four groups of two experts each; one expert of either group is what is left."""
    deepseek = next(one for one in architectures.ARCHITECTURES if one.name == "DeepSeek-V3")
    layer = find_moe_layers(architectures.build(deepseek))[0]
    assert layer.router is not None
    hidden_TD = torch.randn(64, layer.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits_TE, weights_TK, experts_TK = layer.router(hidden_TD)
    plan = plan_sequences([range(64)], [64], REROUTE, "cpu")
    placement = place(layer, plan, [16], experts_TK, weights_TK, logits_TE)
    assert placement is not None
    assert placement.rerouted_TK.any()
    for token in placement.rerouted_TK.any(1).nonzero().flatten().tolist():
        allowed = layer.choice_scores(logits_TE[token : token + 1])[0] > -torch.inf
        assert int(allowed.sum()) == 4
        assert allowed[placement.experts_TK[token]].all()
