"""One expert's products against the architecture's own eager forward, token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GptOssConfig,
    MixtralConfig,
    NemotronHConfig,
)
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts
from transformers.models.mixtral.modeling_mixtral import MixtralExperts
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHExperts

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.expert_weights import expert_weights
from llama_index.packs.mixture_of_agents.sparse_moe.int8 import Int8ExpertWeight

E, D, F = 5, 12, 7


def _mixtral() -> nn.Module:
    return MixtralExperts(MixtralConfig(hidden_size=D, intermediate_size=F, num_local_experts=E))


def _gpt_oss() -> nn.Module:
    return GptOssExperts(GptOssConfig(hidden_size=D, intermediate_size=F, num_local_experts=E))


def _nemotron() -> nn.Module:
    return NemotronHExperts(NemotronHConfig(hidden_size=D, moe_intermediate_size=F, n_routed_experts=E))


KINDS = {"gated": _mixtral, "transposed, biases": _gpt_oss, "no gate": _nemotron}


@pytest.fixture(params=KINDS)
def experts(request: pytest.FixtureRequest) -> nn.Module:
    """An experts module with random weights."""
    make: Callable[[], nn.Module] = KINDS[request.param]
    module, generator = make(), torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return module.eval()


def quantized(experts: nn.Module) -> nn.Module:
    """Its 3D weights as integers, by hand."""
    for name in ("gate_up_proj", "up_proj", "down_proj"):
        weight = getattr(experts, name, None)
        if weight is not None:
            delattr(experts, name)
            setattr(experts, name, Int8ExpertWeight(weight, transposed=bool(experts.is_transposed)))
    return experts


def one_by_one(module: Any, tokens_ND: Tensor, expert: int) -> Tensor:
    """What an expert makes of tokens, by our two products."""
    weights = expert_weights(module)
    inner = weights.project_in(expert, tokens_ND)
    inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
    return weights.project_out(expert, inner)


def eagerly(module: Any, tokens_ND: Tensor, expert: int) -> Tensor:
    """The same, by the architecture's own code: all tokens go to one expert with weight 1."""
    index = torch.full((len(tokens_ND), 1), expert)
    output: Tensor = type(module).forward.__wrapped__(module, tokens_ND, index, torch.ones(len(tokens_ND), 1))
    return output


@pytest.mark.parametrize("tokens", [1, 2, 9])
@torch.no_grad()
def test_dense_products_are_the_architectures_own(experts: nn.Module, tokens: int) -> None:
    tokens_ND = torch.randn(tokens, D, generator=torch.Generator().manual_seed(tokens))
    for expert in range(E):
        ours, theirs = one_by_one(experts, tokens_ND, expert), eagerly(experts, tokens_ND, expert)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 2, 9])
@torch.no_grad()
def test_int8_products_are_the_architectures_own_on_rounded_weights(experts: nn.Module, tokens: int) -> None:
    tokens_ND = torch.randn(tokens, D, generator=torch.Generator().manual_seed(tokens))
    dense = [one_by_one(experts, tokens_ND, expert) for expert in range(E)]
    module = quantized(experts)
    for expert in range(E):
        ours, theirs = one_by_one(module, tokens_ND, expert), eagerly(module, tokens_ND, expert)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert not torch.equal(ours, dense[expert]), "nothing was rounded"


@torch.no_grad()
def test_widths(experts: Any) -> None:
    weights = expert_weights(experts)
    assert weights.project_in(0, torch.ones(3, D)).shape == (3, 2 * F if experts.has_gate else F)
    assert weights.project_out(0, torch.ones(3, F)).shape == (3, D)
    assert weights.project_in(0, torch.ones(0, D)).shape[0] == 0


@torch.no_grad()
def test_nothing_is_copied(experts: Any) -> None:
    """Whoever changes the module's weights in place changes the products."""
    weights = expert_weights(experts)
    experts.down_proj[2].fill_(0.0)
    bias = experts.down_proj_bias[2] if experts.has_bias else torch.zeros(D)
    assert torch.equal(weights.project_out(2, torch.ones(1, F))[0], bias)
    assert float(weights.project_out(1, torch.ones(1, F)).abs().max()) > 0


def test_other_kinds_of_weights_are_refused(experts: Any) -> None:
    experts.down_proj = nn.Parameter(torch.zeros(D, F))
    with pytest.raises(ConfigurationError, match=r"down_proj is Parameter, .* load the model unquantised"):
        expert_weights(experts)
