"""A GGUF file of a dense Llama-architecture model, as a source of tensors.

Weights are dequantised to float32 one at a time and given back Llama's names and row order. The format
is described at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. It does not know what is made
of the tensors.

Shapes: N heads, Q head width, D model width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.dense_source import (
    DenseSource,
    llama_config,
    require_mappable,
    require_tensors,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaConfig

_OUTER_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def llama_name(gguf_name: str) -> str:
    """Translate a tensor's name; one that Llama does not have comes back as it is."""
    parts = gguf_name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER_NAMES:
        return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.{parts[3]}"
    return _OUTER_NAMES.get(gguf_name, gguf_name)


def halves_from_pairs(weights_NQxD: Tensor, heads: int) -> Tensor:
    """Put the rows of a query or key projection back in transformers' order.

    Rotary embedding turns pairs of rows. llama.cpp stores the two rows of a pair next to each other;
    transformers expects all first rows of a head, then all second ones.

    Args:
        weights_NQxD: One projection, heads stacked along the rows.
        heads: N.

    Returns:
        The same rows in transformers' order (NQ, D).
    """
    rows, D = weights_NQxD.shape
    paired = weights_NQxD.reshape(heads, rows // heads // 2, 2, D)
    return paired.transpose(1, 2).reshape(rows, D)


@contextmanager
def open_llama_gguf(path: Path) -> Iterator[DenseSource]:
    """Open a GGUF file.

    Raises:
        ConfigurationError: Truncated, not GGUF, or not a dense Llama that maps.
    """
    reader = _reader(path)
    # The token lists would take seconds to turn into Python objects, and transformers reads them itself.
    fields = {name: field.contents() for name, field in reader.fields.items() if len(field.data) == 1}
    tensors = {llama_name(tensor.name): tensor for tensor in reader.tensors}
    plain = _config_fields(fields, tensors, path)
    require_mappable(plain, path)
    config = llama_config(plain, path)
    require_tensors(frozenset(tensors), config, path)
    yield DenseSource(
        name=str(fields.get("general.name", path.stem)),
        origin=path,
        licence=fields.get("general.license"),
        config=config,
        names=frozenset(tensors),
        read=lambda name: _tensor(tensors[name], name, config),
        write_text_side=lambda folder: _write_text_side(path, config, folder),
    )


def _reader(path: Path) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as problem:
        raise ConfigurationError(
            f"{path} is truncated or no GGUF file ({problem}); download it again"
        ) from problem


def _config_fields(fields: dict[str, Any], tensors: dict[str, Any], path: Path) -> dict[str, Any]:
    """Translate GGUF metadata to the fields of a Llama config."""
    kind = fields.get("general.architecture")
    if kind != "llama":
        return {"model_type": kind, "architectures": [f"GGUF architecture {kind!r}"]}
    theta = fields.get("llama.rope.freq_base", 10000.0)
    try:
        _refuse_changed_rope(fields, path)
        heads = fields["llama.attention.head_count"]
        return {
            "model_type": "llama",
            "num_local_experts": fields.get("llama.expert_count", 0),
            "vocab_size": int(tensors["model.embed_tokens.weight"].shape[1]),
            "hidden_size": fields["llama.embedding_length"],
            "intermediate_size": fields["llama.feed_forward_length"],
            "num_hidden_layers": fields["llama.block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": fields.get("llama.attention.head_count_kv", heads),
            "head_dim": _head_width(fields),
            "max_position_embeddings": fields["llama.context_length"],
            "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
            "rope_parameters": {"rope_type": "default", "rope_theta": theta},
            "tie_word_embeddings": "lm_head.weight" not in tensors,
            "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": fields.get("tokenizer.ggml.padding_token_id"),
        }  # fmt: skip
    except (KeyError, TypeError) as problem:
        raise ConfigurationError(
            f"{path} lacks metadata of a Llama model: {problem}; choose another file"
        ) from problem


def _refuse_changed_rope(fields: dict[str, Any], path: Path) -> None:
    scaling = fields.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise ConfigurationError(
            f"{path} scales its rotary embedding ({scaling}), which is not carried over from GGUF; "
            "upcycle the model's safetensors directory instead"
        )
    width = _head_width(fields)
    turned = fields.get("llama.rope.dimension_count", width)
    if turned != width:
        raise ConfigurationError(
            f"{path} turns only {turned} of {width} dimensions of a head, which Mixtral cannot; "
            "choose another model"
        )


def _head_width(fields: dict[str, Any]) -> int:
    whole = int(fields["llama.embedding_length"]) // int(fields["llama.attention.head_count"])
    return int(fields.get("llama.attention.key_length", whole))


def _tensor(tensor: Any, name: str, config: LlamaConfig) -> Tensor:
    import torch
    from gguf import dequantize

    values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()
    if name.endswith("q_proj.weight"):
        return halves_from_pairs(values, config.num_attention_heads)
    if name.endswith("k_proj.weight"):
        return halves_from_pairs(values, config.num_key_value_heads or config.num_attention_heads)
    return values


def _write_text_side(path: Path, config: LlamaConfig, folder: Path) -> None:
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            str(path.absolute().parent), gguf_file=path.name, local_files_only=True, trust_remote_code=False
        )
    except Exception as problem:
        # The conversion fails in as many ways as there are tokenizers.
        raise ConfigurationError(f"the tokenizer in {path} cannot be converted: {problem}") from problem
    tokenizer.save_pretrained(str(folder))
    ends = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (folder / "generation_config.json").write_text(json.dumps(ends, indent=2) + "\n", encoding="utf-8")
