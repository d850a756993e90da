"""Tokens reach their experts and results their tokens, at every odd size."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from llama_index.packs.mixture_of_agents.sparse_moe.computing import compute_experts
from llama_index.packs.mixture_of_agents.sparse_moe.dispatch import combine, dispatch
from tests.sparse_moe import oracle
from tests.sparse_moe.random_choices import Choice, choice_of, choices

WIDTH = 6


def experts_of(num_experts: int, seed: int = 0) -> MixtralExperts:
    config = MixtralConfig(hidden_size=WIDTH, intermediate_size=5, num_local_experts=num_experts)
    config._experts_implementation = "eager"
    experts = MixtralExperts(config).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in experts.parameters():
        parameter.data.normal_(generator=generator)
    return experts


def hidden_of(tokens: int, seed: int = 1) -> Tensor:
    return torch.randn(tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def computed(choice: Choice, hidden_TD: Tensor, kept_TK: Tensor | None = None) -> Tensor:
    experts = experts_of(choice.num_experts)
    with torch.no_grad():
        return compute_experts(experts, hidden_TD, choice.experts_TK, choice.weights_TK.double(), kept_TK)


@settings(max_examples=60)
@given(choice=choices(), data=st.data())
def test_experts_agree_with_the_slow_way(choice: Choice, data: st.DataObject) -> None:
    flags = data.draw(
        st.lists(st.booleans(), min_size=choice.experts_TK.numel(), max_size=choice.experts_TK.numel())
    )
    kept_TK = torch.tensor(flags).view_as(choice.experts_TK)
    hidden_TD, experts = hidden_of(len(choice.experts_TK)), experts_of(choice.num_experts)
    expected = oracle.mixture(
        hidden_TD.numpy(),
        choice.experts_TK.numpy(),
        choice.weights_TK.double().numpy(),
        kept_TK.numpy(),
        experts.gate_up_proj.detach().numpy(),
        experts.down_proj.detach().numpy(),
    )
    np.testing.assert_allclose(computed(choice, hidden_TD, kept_TK).numpy(), expected, atol=1e-12)


@settings(max_examples=40)
@given(choice=choices())
def test_without_a_limit_it_is_the_dense_top_k(choice: Choice) -> None:
    hidden_TD, experts = hidden_of(len(choice.experts_TK)), experts_of(choice.num_experts)
    chosen_TE = torch.zeros(choice.logits_TE.shape, dtype=torch.float64)
    chosen_TE.scatter_(1, choice.experts_TK, choice.weights_TK.double())
    expected = oracle.dense_mixture(
        hidden_TD.numpy(),
        chosen_TE.numpy(),
        experts.gate_up_proj.detach().numpy(),
        experts.down_proj.detach().numpy(),
    )
    np.testing.assert_allclose(computed(choice, hidden_TD).numpy(), expected, atol=1e-12)


@settings(max_examples=40)
@given(choice=choices())
def test_it_is_what_transformers_computes(choice: Choice) -> None:
    hidden_TD, experts = hidden_of(len(choice.experts_TK)), experts_of(choice.num_experts)
    with torch.no_grad():
        eager = experts(hidden_TD, choice.experts_TK, choice.weights_TK.double())
    torch.testing.assert_close(computed(choice, hidden_TD), eager, rtol=0, atol=1e-12)


@settings(max_examples=40)
@given(choice=choices(), seed=st.integers(0, 1000))
def test_permuting_tokens_permutes_results(choice: Choice, seed: int) -> None:
    hidden_TD = hidden_of(len(choice.experts_TK))
    order_T = torch.randperm(len(hidden_TD), generator=torch.Generator().manual_seed(seed))
    shuffled = Choice(
        choice.logits_TE[order_T],
        choice.experts_TK[order_T],
        choice.weights_TK[order_T],
        choice.groups_T[order_T],
    )
    expected = computed(choice, hidden_TD)[order_T]
    torch.testing.assert_close(computed(shuffled, hidden_TD[order_T]), expected, rtol=0, atol=1e-12)


@settings(max_examples=60)
@given(choice=choices(), data=st.data())
def test_the_receipt_names_every_kept_assignment_once(choice: Choice, data: st.DataObject) -> None:
    count = choice.experts_TK.numel()
    kept_TK = torch.tensor(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    receipt = dispatch(choice.experts_TK, choice.num_experts, kept_TK.view_as(choice.experts_TK))
    assert sorted(receipt.order_S.tolist()) == kept_TK.nonzero().flatten().tolist()
    assert torch.equal(receipt.tokens_S, receipt.order_S // choice.top_k)
    sorted_S = choice.experts_TK.flatten()[receipt.order_S]
    for expert, part in receipt.slices():
        assert set(sorted_S[part].tolist()) == {expert}
        assert sorted(receipt.tokens_S[part].tolist()) == receipt.tokens_S[part].tolist()
    assert sum(part.stop - part.start for _, part in receipt.slices()) == len(receipt.order_S)


def test_a_dropped_assignment_does_not_catch_its_neighbours_nan() -> None:
    """0 times NaN is NaN: what is dropped must not be a neighbour's output times 0."""
    choice = choice_of(torch.zeros(2, 2), 1, [0, 0])
    kept_TK = torch.tensor([[True], [False]])
    receipt = dispatch(choice.experts_TK, 2, kept_TK)
    result_TD = combine(torch.full((1, WIDTH), float("nan")), receipt, choice.weights_TK)
    assert result_TD[0].isnan().all()
    assert torch.equal(result_TD[1], torch.zeros(WIDTH))


def test_if_everything_is_dropped_nothing_is_added() -> None:
    choice = choice_of(torch.zeros(3, 2), 2, [0, 0, 0])
    hidden_TD = hidden_of(3)
    nothing = torch.zeros_like(choice.experts_TK, dtype=torch.bool)
    assert torch.equal(computed(choice, hidden_TD, nothing), torch.zeros_like(hidden_TD))


def test_no_tokens_at_all() -> None:
    choice = choice_of(torch.zeros(0, 3), 2, [])
    assert computed(choice, hidden_of(0)).shape == (0, WIDTH)


@pytest.mark.parametrize("tokens", [1, 7])
def test_half_precision_stays_half_precision(tokens: int) -> None:
    """Routers return fp32 weights for a bf16 model; the layer's output must not widen."""
    choice = choice_of(torch.randn(tokens, 4), 2, [0] * tokens)
    experts = experts_of(4).bfloat16()
    with torch.no_grad():
        half = compute_experts(experts, hidden_of(tokens).bfloat16(), choice.experts_TK, choice.weights_TK)
    assert half.dtype == torch.bfloat16
    exact = computed(choice, hidden_of(tokens))
    assert (half.double() - exact).norm() < 0.05 * exact.norm()


def test_gradients_flow_through_dispatch_and_combine() -> None:
    choice = choice_of(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), 2, [0] * 5)
    experts, hidden_TD = experts_of(3), hidden_of(5).requires_grad_()
    weights_TK = choice.weights_TK.double().requires_grad_()
    ours = compute_experts(experts, hidden_TD, choice.experts_TK, weights_TK)
    stock = experts(hidden_TD, choice.experts_TK, weights_TK)
    for mine, theirs in zip(
        torch.autograd.grad(ours.square().sum(), [hidden_TD, weights_TK, experts.down_proj]),
        torch.autograd.grad(stock.square().sum(), [hidden_TD, weights_TK, experts.down_proj]),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
