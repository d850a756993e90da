"""Every kind of experts module that transformers' interface describes computes what transformers computes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import MixtralConfig
from transformers.integrations.moe import batched_mm_experts_forward, use_experts_implementation

from llama_index.packs.mixture_of_agents.sparse_moe.computing import compute_experts
from tests.sparse_moe.random_choices import choice_of

EXPERTS, WIDTH, INNER, TOP_K = 5, 6, 4, 3
KINDS = list(itertools.product([False, True], repeat=4))


def experts_of(has_gate: bool, has_bias: bool, is_transposed: bool, has_post_expert_norm: bool) -> Any:
    """A module of one kind, with random weights."""

    class Experts(nn.Module):
        def __init__(self, config: MixtralConfig) -> None:
            super().__init__()
            self.num_experts = EXPERTS
            name, inner = ("gate_up_proj", 2 * INNER) if has_gate else ("up_proj", INNER)
            for parameter, inputs, outputs in [(name, WIDTH, inner), ("down_proj", INNER, WIDTH)]:
                shape = (inputs, outputs) if is_transposed else (outputs, inputs)
                self.register_parameter(parameter, nn.Parameter(torch.randn(EXPERTS, *shape)))
                if has_bias:
                    self.register_parameter(f"{parameter}_bias", nn.Parameter(torch.randn(EXPERTS, outputs)))
            self.act_fn = nn.SiLU()
            self.post_expert_norm = nn.RMSNorm(WIDTH)

        def forward(self, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
            raise NotImplementedError

    decorate = use_experts_implementation(
        has_gate=has_gate,
        has_bias=has_bias,
        is_transposed=is_transposed,
        has_post_expert_norm=has_post_expert_norm,
    )
    torch.manual_seed(0)
    return decorate(Experts)(MixtralConfig()).double()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 9])
def test_each_kind_is_what_transformers_computes(kind: tuple[bool, bool, bool, bool], tokens: int) -> None:
    experts = experts_of(*kind)
    generator = torch.Generator().manual_seed(1)
    choice = choice_of(torch.randn(tokens, EXPERTS, generator=generator), TOP_K, [0] * tokens)
    hidden_TD = torch.randn(tokens, WIDTH, generator=generator, dtype=torch.float64)
    weights_TK = choice.weights_TK.double()
    with torch.no_grad():
        ours = compute_experts(experts, hidden_TD, choice.experts_TK, weights_TK)
        expected = batched_mm_experts_forward(experts, hidden_TD, choice.experts_TK, weights_TK)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
