"""Tiny random models of many mixture-of-experts architectures, built from their configs.

Knows transformers' names of what a config takes; knows no test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

EXPERTS = 8
TOP_K = 2
VOCABULARY = 101

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
# Attention over a compressed cache, as DeepSeek has it: widths of its own, a key and a value per query.
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 8,
}
# An indexer chooses which positions are attended to: here all of them.
_INDEXED: dict[str, Any] = {
    **_LATENT,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 256,
    "layer_types": ["indexed_attention"] * 2,
}
_SLIDING = {"layer_types": ["sliding_attention", "full_attention"]}
_FULL = {"layer_types": ["full_attention"] * 2}
_DELTA: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_KIMI_DELTA: dict[str, Any] = {
    **_LATENT,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_head_dim": 8,
    "linear_num_heads": 4,
}
_V4: dict[str, Any] = {
    "layer_types": ["sliding_attention"] * 2,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "o_groups": 2,
    "o_lora_rank": 8,
}

# What a config calls the number of experts.
_ROUTED, _LOCAL = "n_routed_experts", "num_local_experts"
_NARROW: dict[str, Any] = {"moe_intermediate_size": 24}
_SPARSE: dict[str, Any] = {**_NARROW, "mlp_layer_types": ["sparse", "sparse"]}
# One shared expert beside the routed ones, under each of its names.
_SHARED_EXPERT: dict[str, Any] = {**_NARROW, "shared_expert_intermediate_size": 24}
_N_SHARED: dict[str, Any] = {**_NARROW, "n_shared_experts": 1, "first_k_dense_replace": 0}
_N_SHARED_SPARSE: dict[str, Any] = {**_N_SHARED, **_SPARSE}
_GROUPS = {"n_group": 4, "topk_group": 2}


@dataclass(frozen=True)
class Architecture:
    """One architecture, as transformers names it.

    Args:
        name: How people call it.
        model_type: How transformers does.
        experts: What its config calls the number of experts,
        top_k: and the number of experts per token.
        moe: What else its config says about experts.
        rest: What its config needs besides.
        only_top_k: The one number of experts per token it can have, where there is only one.
    """

    name: str
    model_type: str
    experts: str = "num_experts"
    top_k: str = "num_experts_per_tok"
    moe: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)
    only_top_k: int | None = None


ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture("Mixtral", "mixtral", _LOCAL),
    Architecture("OLMoE", "olmoe"),
    Architecture("Qwen2-MoE", "qwen2_moe", moe=_SHARED_EXPERT),
    Architecture("Qwen3-MoE", "qwen3_moe", moe={**_NARROW, "norm_topk_prob": True}),
    Architecture("Qwen3-Next", "qwen3_next", moe=_SHARED_EXPERT, rest=_DELTA),
    Architecture("Qwen3.5-MoE", "qwen3_5_moe_text", moe=_SHARED_EXPERT, rest=_DELTA),
    Architecture("GraniteMoe", "granitemoe", _LOCAL),
    Architecture("GraniteMoeShared", "granitemoeshared", _LOCAL, moe={"shared_intermediate_size": 24}),
    Architecture("GraniteMoeSWA", "granitemoe_swa", _LOCAL, rest=_SLIDING),
    Architecture(
        "GraniteMoeHybrid",
        "granitemoehybrid",
        _LOCAL,
        moe={"shared_intermediate_size": 24},
        rest={
            "layer_types": ["mamba", "attention"],
            "position_embedding_type": "rope",
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 8,
        },
    ),
    Architecture("GPT-OSS", "gpt_oss", _LOCAL, rest=_SLIDING),
    Architecture("DeepSeek-V2", "deepseek_v2", _ROUTED, moe=_N_SHARED, rest=_LATENT),
    Architecture(
        "DeepSeek-V2, grouped",
        "deepseek_v2",
        _ROUTED,
        moe={**_N_SHARED, **_GROUPS, "topk_method": "group_limited_greedy"},
        rest=_LATENT,
    ),
    Architecture("DeepSeek-V3", "deepseek_v3", _ROUTED, moe={**_N_SHARED, **_GROUPS}, rest=_LATENT),
    Architecture(
        "DeepSeek-V3.2", "deepseek_v32", _ROUTED, moe={**_N_SHARED_SPARSE, **_GROUPS}, rest=_INDEXED
    ),
    Architecture(
        "DeepSeek-V4", "deepseek_v4", _ROUTED, moe={**_N_SHARED, "mlp_layer_types": ["moe"] * 2}, rest=_V4
    ),
    Architecture(
        "DeepSeek-V4, hashed",
        "deepseek_v4",
        _ROUTED,
        moe={**_N_SHARED, "mlp_layer_types": ["hash_moe", "moe"]},
        rest=_V4,
    ),
    Architecture("Phi-MoE", "phimoe", _LOCAL),
    Architecture(
        "Jamba",
        "jamba",
        moe={"expert_layer_period": 1, "expert_layer_offset": 0},
        rest={
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    Architecture(
        "Nemotron-H",
        "nemotron_h",
        _ROUTED,
        moe={**_NARROW, "moe_shared_expert_intermediate_size": 24},
        rest={"mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1},
    ),
    Architecture("GLM4-MoE", "glm4_moe", _ROUTED, moe=_N_SHARED),
    Architecture("GLM4-MoE-Lite", "glm4_moe_lite", _ROUTED, moe=_N_SHARED_SPARSE, rest=_LATENT),
    Architecture("GLM-MoE-DSA", "glm_moe_dsa", _ROUTED, moe=_N_SHARED_SPARSE, rest=_INDEXED),
    Architecture(
        "ERNIE-4.5-MoE",
        "ernie4_5_moe",
        "moe_num_experts",
        "moe_k",
        moe={
            **_NARROW,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 0,
            "moe_layer_end_index": 1,
        },
    ),
    Architecture("dots.1", "dots1", _ROUTED, moe=_N_SHARED, rest=_FULL),
    Architecture("MiniMax", "minimax", _LOCAL, rest={**_DELTA, "block_size": 16}),
    Architecture("MiniMax-M2", "minimax_m2", _LOCAL),
    Architecture(
        "LFM2-MoE",
        "lfm2_moe",
        moe={**_NARROW, "num_dense_layers": 0},
        rest={"layer_types": ["conv", "full_attention"]},
    ),
    Architecture("FlexOlmo", "flex_olmo"),
    Architecture("Hunyuan-MoE", "hunyuan_v1_moe", top_k="moe_topk"),
    Architecture("Hunyuan-V3", "hy_v3", moe={**_SPARSE, "num_shared_experts": 1}),
    Architecture("Hunyuan-V4", "hy_v4", _ROUTED, moe=_N_SHARED_SPARSE, rest=_INDEXED),
    Architecture(
        "AFMoE", "afmoe", moe={**_NARROW, "num_dense_layers": 0, "num_shared_experts": 1}, rest=_SLIDING
    ),
    Architecture("EXAONE-MoE", "exaone_moe", moe={**_SPARSE, "num_shared_experts": 1}, rest=_SLIDING),
    Architecture("Solar-Open", "solar_open", _ROUTED, moe=_N_SHARED),
    Architecture("A.X-K1", "axk1", _ROUTED, moe={**_N_SHARED_SPARSE, **_GROUPS}, rest=_LATENT),
    Architecture("A.X-K2", "axk2", _ROUTED, moe={**_N_SHARED_SPARSE, **_GROUPS}, rest=_INDEXED),
    Architecture("Command-MoE", "cohere2_moe", moe=_SPARSE, rest=_SLIDING),
    Architecture("Inkling", "inkling_text", _ROUTED, moe=_N_SHARED_SPARSE),
    Architecture("Kimi-Linear", "kimi_linear", moe=_N_SHARED_SPARSE, rest=_KIMI_DELTA),
    Architecture("Ling-Hybrid", "bailing_hybrid", moe={**_N_SHARED_SPARSE, **_GROUPS}, rest=_KIMI_DELTA),
    Architecture("Beam", "beam", moe={**_N_SHARED_SPARSE, **_GROUPS}, rest=_SLIDING),
    Architecture("Mellum", "mellum", moe=_SPARSE, rest=_FULL),
    Architecture("MiMo-V2-Flash", "mimo_v2_flash", _ROUTED, moe=_N_SHARED_SPARSE, rest=_SLIDING),
    Architecture("Kolibri", "kolibri1", moe=_SHARED_EXPERT),
    Architecture("Laguna", "laguna", moe={**_SHARED_EXPERT, **_SPARSE}),
    Architecture("Flint", "flint", moe={**_SHARED_EXPERT, "mlp_only_layers": []}),
    Architecture(
        "Gemma-4",
        "gemma4_text",
        top_k="top_k_experts",
        moe={**_NARROW, "enable_moe_block": True},
        rest={**_SLIDING, "global_head_dim": 8, "vocab_size_per_layer_input": VOCABULARY},
    ),
    Architecture(
        "Zaya",
        "zaya",
        moe={**_NARROW, "router_hidden_size": 16},
        rest={"layer_types": ["hybrid"] * 2},
        only_top_k=1,
    ),
)


def build(architecture: Architecture, *, top_k: int | None = None, seed: int = 0) -> PreTrainedModel:
    """Make a model with random weights, in eval mode."""
    settings = {**_SHAPE, **architecture.moe, **architecture.rest}
    settings |= {architecture.experts: EXPERTS, architecture.top_k: top_k or architecture.only_top_k or TOP_K}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(architecture.model_type, **settings)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            _fill_in(name, tensor)
    model.eval()
    return model


def _fill_in(name: str, tensor: torch.Tensor) -> None:
    """Give random values to what is constant in a new model, which would hide whoever forgets to read it."""
    if name.endswith("tid2eid"):
        # DeepSeek-V4's first layers: experts by token id, different ones for a token.
        tensor.copy_(torch.rand(len(tensor), EXPERTS).argsort(1)[:, : tensor.shape[1]])
    elif name.endswith("per_expert_scale"):
        tensor.uniform_(0.5, 1.5)
    elif "bias" in name and tensor.numel() % EXPERTS == 0:
        tensor.normal_(std=0.1)
    elif tensor.dim() == 2 and not tensor.any():
        tensor.normal_(std=_SHAPE["initializer_range"])
