"""Tiny random dense models of every architecture that can be upcycled."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from tests.sparse_moe.tiny_models import WIDTHS

KINDS = ("llama", "mistral", "qwen2", "qwen3")
PROBE_BS = torch.tensor([[3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26, 43, 38, 32, 79]])


def tiny_dense(kind: str, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A dense model in eval mode, with biases and norms that are not zeros and ones."""
    fields = {**WIDTHS, "max_position_embeddings": 512} | changes
    if kind == "qwen3":
        fields.setdefault("head_dim", 8)
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind].from_dict(fields)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(torch.randn(parameter.shape) * 0.2 + ("norm" in name))
    return model


def logits_of(model: PreTrainedModel, ids_BS: torch.Tensor = PROBE_BS) -> torch.Tensor:
    """One forward pass."""
    with torch.no_grad():
        logits: torch.Tensor = model(ids_BS).logits
    return logits
