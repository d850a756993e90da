"""The router's losses: their values at the extremes, and by their papers' formulas."""

from __future__ import annotations

import math

import pytest
import torch

from llama_index.packs.mixture_of_agents.sparse_moe.losses import load_balancing_loss, router_z_loss


def test_the_balancing_loss_is_one_when_even_and_most_at_a_collapse() -> None:
    even_TE, every_TK = torch.full((4, 4), 0.25), torch.tensor([[0, 1], [2, 3], [1, 0], [3, 2]])
    assert load_balancing_loss(even_TE, every_TK).item() == pytest.approx(1)
    one_TE = torch.tensor([[0.5, 0.5, 0, 0]]).expand(4, 4)
    assert load_balancing_loss(one_TE, torch.tensor([[0, 1]]).expand(4, 2)).item() == pytest.approx(4 / 2)


def test_the_losses_are_their_papers_formulas() -> None:
    logits_TE = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    probabilities_TE = logits_TE.softmax(dim=-1)
    chosen_TK = probabilities_TE.topk(2).indices
    shares = [float((chosen_TK == expert).sum()) / 20 for expert in range(4)]
    balance = 4 * sum(shares[expert] * float(probabilities_TE[:, expert].mean()) for expert in range(4))
    z = sum(math.log(sum(math.exp(value) for value in row)) ** 2 for row in logits_TE.tolist()) / 10
    assert load_balancing_loss(probabilities_TE, chosen_TK).item() == pytest.approx(balance, rel=1e-5)
    assert router_z_loss(logits_TE).item() == pytest.approx(z, rel=1e-5)


def test_the_balancing_loss_pulls_hardest_at_the_busiest_expert() -> None:
    logits_TE = torch.zeros(4, 3, requires_grad=True)
    load_balancing_loss(logits_TE.softmax(dim=-1), torch.tensor([[0], [0], [0], [1]])).backward()
    assert logits_TE.grad is not None
    pull_E = logits_TE.grad.sum(dim=0)
    assert pull_E[0] > pull_E[1] > pull_E[2]


def test_without_tokens_there_is_nothing_to_lose() -> None:
    nothing_TE = torch.zeros(0, 4, requires_grad=True)
    assert load_balancing_loss(nothing_TE, torch.zeros(0, 2, dtype=torch.long)).item() == 0
    assert router_z_loss(nothing_TE).item() == 0
