"""Tiny models of ten architectures, and the same with weights rounded to 8 bits by numpy. Knows no test."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import NemotronHConfig, PhimoeConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from llama_index.packs.mixture_of_agents.sparse_moe.int8 import Int8ExpertWeight, Int8Linear
from tests.sparse_moe import tiny_models
from tests.sparse_moe.tiny_models import WIDTHS


def _phimoe() -> PreTrainedModel:
    return _random(PhimoeConfig(**WIDTHS, num_local_experts=4, num_experts_per_tok=2))


def _nemotron_h() -> PreTrainedModel:
    changes = {"num_hidden_layers": 3, "layers_block_type": ["mamba", "attention", "moe"], "head_dim": 8}
    mamba = {"mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 2, "chunk_size": 16}
    moe = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    shared = {"moe_shared_expert_intermediate_size": 24, "n_shared_experts": 1}
    return _random(NemotronHConfig(**{**WIDTHS, **changes, **mamba, **moe, **shared}))


def _random(config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    return model


KINDS: dict[str, Callable[[], PreTrainedModel]] = {
    "mixtral": tiny_models.tiny_mixtral,
    "olmoe": lambda: tiny_models.other_moe("olmoe"),
    "qwen2_moe": lambda: tiny_models.other_moe("qwen2_moe"),
    "granitemoehybrid": lambda: tiny_models.other_moe("granitemoehybrid"),
    "gpt_oss": tiny_models.tiny_gpt_oss,
    "qwen3_next": tiny_models.tiny_qwen3_next,
    "deepseek_v3": tiny_models.tiny_deepseek,
    "jamba": tiny_models.tiny_jamba,
    "phimoe": _phimoe,
    "nemotron_h": _nemotron_h,
}
PROMPTS = torch.randint(3, 250, (4, 17), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def calm(kind: str) -> PreTrainedModel:
    """A model of a kind in which an error does not grow from layer to layer, as with wilder weights."""
    model = KINDS[kind]()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(0.2)
    return model


@torch.no_grad()
def logits(model: Any) -> Tensor:
    output: Tensor = model(PROMPTS).logits
    return output


def rounded(weight: Tensor, *, transposed: bool) -> Tensor:
    """To 127 steps either side of 0, per output row, and back to floats."""
    axis = -2 if transposed else -1
    exact = weight.detach().numpy().astype(np.float32)
    step = np.abs(exact).max(axis=axis, keepdims=True) / np.float32(127)
    return torch.from_numpy(np.rint(exact / step) * step)


def oracle(model: PreTrainedModel, quantized: PreTrainedModel) -> PreTrainedModel:
    """A stock copy of `model` whose weights are rounded where those of `quantized` are 8-bit."""
    stock = copy.deepcopy(model)
    for path, module in quantized.named_modules():
        if isinstance(module, Int8Linear):
            weight = stock.get_parameter(f"{path}.weight")
            weight.data = rounded(weight, transposed=False)
        elif isinstance(module, Int8ExpertWeight):
            stack = stock.get_parameter(path)
            stack.data = rounded(stack, transposed=module.transposed)
    return stock
