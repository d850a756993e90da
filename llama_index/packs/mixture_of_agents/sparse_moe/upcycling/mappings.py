"""Which dense architectures become which stock mixture of experts, and what has to hold for that.

A mapping is listed only if the mixture's blocks compute exactly what the dense model's blocks compute
when all experts are equal: same attention (biases, norms of queries and keys, sliding window, rotary
embedding), and combine weights that sum to one. Checked against transformers 5.23. It reads no tensor.

Shapes: V vocabulary, D model width, F feed-forward width, H query heads, G key-value heads, Q head width,
S shared expert's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.checkpoints import architecture, expert_count

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_MIXTRAL_PARTS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
_QWEN_PARTS = {"gate_proj": "gate_proj", "up_proj": "up_proj", "down_proj": "down_proj"}
_CARRIED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range",
    "rms_norm_eps", "rope_parameters", "attention_dropout", "tie_word_embeddings", "bos_token_id",
    "eos_token_id", "pad_token_id",
)  # fmt: skip
# Wide enough to be trained into something and a whole block for int4 formats; small beside any expert.
_SHARED_WIDTH = 32


@dataclass(frozen=True)
class StockMapping:
    """A dense architecture and the stock mixture it becomes.

    Args:
        dense_type: transformers' model_type of the dense model.
        dense_class: Its class.
        moe_type: model_type of the mixture.
        moe_class: Its class.
        block: Where a layer's experts and router are, on disk.
        parts: What gate, up and down projection of an expert are called on disk.
        no_place_for: Switches of the dense config that the mixture does not have.
        qkv_bias: Whether queries, keys and values always have a bias.
        head_norms: Whether queries and keys are normalised.
        windows: Whether the mixture can see through a sliding window in all of its layers.
        shared_expert: Whether the mixture insists on a shared expert.
    """

    dense_type: str
    dense_class: str
    moe_type: str
    moe_class: str
    block: str
    parts: Mapping[str, str]
    no_place_for: tuple[str, ...] = ("attention_bias", "mlp_bias")
    qkv_bias: bool = False
    head_norms: bool = False
    windows: bool = True
    shared_expert: bool = False

    def expert_name(self, layer: int, expert: int, part: str) -> str:
        """Name an expert's matrix as checkpoints of the mixture have it."""
        return f"model.layers.{layer}.{self.block}.experts.{expert}.{self.parts[part]}.weight"

    def router_name(self, layer: int) -> str:
        """Name a router's matrix as checkpoints of the mixture have it."""
        return f"model.layers.{layer}.{self.block}.gate.weight"


_MAPPINGS = (
    StockMapping(
        "llama", "LlamaForCausalLM", "mixtral", "MixtralForCausalLM", "block_sparse_moe", _MIXTRAL_PARTS
    ),
    StockMapping(
        "mistral", "MistralForCausalLM", "mixtral", "MixtralForCausalLM", "block_sparse_moe", _MIXTRAL_PARTS
    ),
    # Qwen2-MoE masks by window but does not tell its attention of it, so kernels that mask by themselves
    # would look further than the dense model does.
    StockMapping(
        "qwen2", "Qwen2ForCausalLM", "qwen2_moe", "Qwen2MoeForCausalLM", "mlp", _QWEN_PARTS,
        qkv_bias=True, windows=False, shared_expert=True,
    ),
    StockMapping(
        "qwen3", "Qwen3ForCausalLM", "qwen3_moe", "Qwen3MoeForCausalLM", "mlp", _QWEN_PARTS,
        no_place_for=("mlp_bias",), head_norms=True,
    ),
)  # fmt: skip
MAPPINGS: Mapping[str, StockMapping] = {mapping.dense_type: mapping for mapping in _MAPPINGS}


def mapping_of(fields: Mapping[str, Any], origin: Path) -> StockMapping:
    """Find what a dense model becomes.

    Args:
        fields: The source's config.json, or the same made from GGUF metadata.
        origin: Named in messages.

    Raises:
        ConfigurationError: A mixture already, an architecture without a mapping, biases that the mixture
            has no place for, or quantised weights.
    """
    if expert_count(fields) > 1:
        raise ConfigurationError(
            f"{origin} is a mixture of experts already ({architecture(fields)}); use it as it is"
        )
    mapping = MAPPINGS.get(str(fields.get("model_type")))
    if mapping is None:
        *others, last = (known.dense_class for known in _MAPPINGS)
        raise ConfigurationError(
            f"{origin} is {architecture(fields)}; only dense models of class {', '.join(others)} or {last} "
            "become a stock mixture of experts. Choose such a model"
        )
    for name in mapping.no_place_for:
        if fields.get(name):
            raise ConfigurationError(
                f"{origin} has {name}, which {mapping.moe_class} has no place for; choose a model without it"
            )
    if fields.get("quantization_config"):
        raise ConfigurationError(
            f"{origin} has quantised weights; take the unquantised model, or a GGUF file of it"
        )
    return mapping


def dense_config(mapping: StockMapping, fields: Mapping[str, Any], origin: Path) -> PreTrainedConfig:
    """Make the dense model's config of plain fields.

    Raises:
        ConfigurationError: transformers refuses them, or the mixture has no such sliding window.
    """
    from transformers import CONFIG_MAPPING

    try:
        config: PreTrainedConfig = CONFIG_MAPPING[mapping.dense_type].from_dict(dict(fields))
    except Exception as problem:
        # Its validation raises whatever fits: ValueError, TypeError, KeyError, its own strict errors.
        raise ConfigurationError(
            f"the config of {origin} is not a valid {mapping.dense_class} config: {problem}"
        ) from problem
    _require_expressible_window(mapping, config, origin)
    return config


def _layer_kinds(config: PreTrainedConfig) -> set[str]:
    return set(getattr(config, "layer_types", None) or [])


def _require_expressible_window(mapping: StockMapping, config: PreTrainedConfig, origin: Path) -> None:
    kinds = _layer_kinds(config)
    if len(kinds) > 1:
        raise ConfigurationError(
            f"{origin} mixes layers of different attention ({', '.join(sorted(kinds))}), which "
            f"{mapping.moe_class} cannot carry over; choose a model whose layers are alike"
        )
    if not mapping.windows and "sliding_attention" in kinds:
        raise ConfigurationError(
            f"{origin} sees through a sliding window, which {mapping.moe_class} does not hand to its "
            "attention; choose a model with full attention"
        )


def window_of(config: PreTrainedConfig) -> int | None:
    """Say how many tokens back every layer sees, or None for all."""
    if _layer_kinds(config) == {"full_attention"}:
        return None
    return getattr(config, "sliding_window", None)


def moe_config(mapping: StockMapping, dense: PreTrainedConfig, experts: int, top_k: int) -> PreTrainedConfig:
    """Say of the mixture what holds for the dense model, and how its experts are chosen."""
    from transformers import CONFIG_MAPPING

    fields = {name: getattr(dense, name) for name in _CARRIED}
    if (head_width := getattr(dense, "head_dim", None)) is not None:
        fields["head_dim"] = head_width
    fields |= _mixtral_fields(dense) if mapping.moe_type == "mixtral" else _qwen_fields(mapping, dense)
    fields |= {"num_experts": experts, "num_experts_per_tok": top_k, "architectures": [mapping.moe_class]}
    config: PreTrainedConfig = CONFIG_MAPPING[mapping.moe_type].from_dict(fields)
    return config


def _mixtral_fields(dense: PreTrainedConfig) -> dict[str, Any]:
    return {"sliding_window": window_of(dense)}


def _qwen_fields(mapping: StockMapping, dense: PreTrainedConfig) -> dict[str, Any]:
    window = window_of(dense)
    fields: dict[str, Any] = {
        "moe_intermediate_size": dense.intermediate_size,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        # Without it the combine weights sum to less than one, and so would the experts' outputs.
        "norm_topk_prob": True,
        "use_sliding_window": window is not None,
        "sliding_window": window,
    }
    if mapping.shared_expert:
        return {**fields, "qkv_bias": True, "shared_expert_intermediate_size": shared_width(dense)}
    return {**fields, "attention_bias": bool(dense.attention_bias)}


def shared_width(config: PreTrainedConfig) -> int:
    """Say how wide a shared expert that adds nothing is made."""
    return min(int(config.intermediate_size), _SHARED_WIDTH)


def tensor_shapes(mapping: StockMapping, config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """List every tensor of a dense model with its shape, in the order of a forward pass.

    Args:
        mapping: Its architecture.
        config: Its config.

    Returns:
        Shapes by name; without lm_head where it is tied to the embeddings.
    """
    V, D = config.vocab_size, config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, D)}
    layer = _layer_shapes(mapping, config)
    for index in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (D,)
    return shapes if config.tie_word_embeddings else {**shapes, "lm_head.weight": (V, D)}


def _layer_shapes(mapping: StockMapping, config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    D, F = config.hidden_size, config.intermediate_size
    return {
        "input_layernorm.weight": (D,),
        **_attention_shapes(mapping, config),
        "post_attention_layernorm.weight": (D,),
        "mlp.gate_proj.weight": (F, D),
        "mlp.up_proj.weight": (F, D),
        "mlp.down_proj.weight": (D, F),
    }


def _attention_shapes(mapping: StockMapping, config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    D, H = config.hidden_size, config.num_attention_heads
    Q = getattr(config, "head_dim", None) or D // H
    HQ, GQ = H * Q, (config.num_key_value_heads or H) * Q
    all_biased = bool(getattr(config, "attention_bias", False))
    shapes: dict[str, tuple[int, ...]] = {}
    for name, rows in (("q_proj", HQ), ("k_proj", GQ), ("v_proj", GQ)):
        shapes[f"self_attn.{name}.weight"] = (rows, D)
        if mapping.qkv_bias or all_biased:
            shapes[f"self_attn.{name}.bias"] = (rows,)
    shapes["self_attn.o_proj.weight"] = (D, HQ)
    if all_biased:
        shapes["self_attn.o_proj.bias"] = (D,)
    if mapping.head_norms:
        shapes |= {"self_attn.q_norm.weight": (Q,), "self_attn.k_norm.weight": (Q,)}
    return shapes
