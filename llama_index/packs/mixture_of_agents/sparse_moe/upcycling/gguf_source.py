"""A GGUF file of a dense model, as a source of tensors.

Weights are dequantised to float32 one at a time and given back transformers' names and row order.
Mistral's files say that they are Llama's. The format is described at
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. It does not know what is made of the tensors.

Shapes: N heads, Q head width, D model width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.dense_source import DenseSource, require_tensors
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.mappings import dense_config, mapping_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig

# The architectures whose row order and metadata are known here.
_KINDS = ("llama", "qwen2", "qwen3")

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
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def stock_name(gguf_name: str) -> str:
    """Translate a tensor's name; an unknown one comes back as it is."""
    parts = gguf_name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER_NAMES:
        return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.{parts[3]}"
    return _OUTER_NAMES.get(gguf_name, gguf_name)


def halves_from_pairs(weights_NQxD: Tensor, heads: int) -> Tensor:
    """Put the rows of a query or key projection back in transformers' order.

    Rotary embedding turns pairs of rows. For Llama, llama.cpp stores the two rows of a pair next to each
    other; transformers expects all first rows of a head, then all second ones.

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
def open_gguf(path: Path) -> Iterator[DenseSource]:
    """Open a GGUF file.

    Raises:
        ConfigurationError: Truncated, not GGUF, or nothing stock can be made of it.
    """
    reader = _reader(path)
    # The token lists would take seconds to turn into Python objects, and transformers reads them itself.
    fields = {name: field.contents() for name, field in reader.fields.items() if len(field.data) == 1}
    tensors = {stock_name(tensor.name): tensor for tensor in reader.tensors}
    plain = _config_fields(fields, tensors, path)
    mapping = mapping_of(plain, path)
    config = dense_config(mapping, plain, path)
    require_tensors(frozenset(tensors), mapping, config, path)
    yield DenseSource(
        name=str(fields.get("general.name", path.stem)),
        origin=path,
        files=(path,),
        licence=fields.get("general.license"),
        mapping=mapping,
        config=config,
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
    """Translate GGUF metadata to the fields of the model's config."""
    kind = fields.get("general.architecture")
    if kind not in _KINDS:
        return {"model_type": f"gguf {kind}", "architectures": [f"GGUF architecture {kind!r}"]}
    own = {
        name.removeprefix(f"{kind}."): value for name, value in fields.items() if name.startswith(f"{kind}.")
    }
    try:
        _refuse_changed_attention(own, path)
        heads = own["attention.head_count"]
        return {
            "model_type": kind,
            "architectures": [f"GGUF architecture {kind!r}"],
            "num_local_experts": own.get("expert_count", 0),
            "vocab_size": int(tensors["model.embed_tokens.weight"].shape[1]),
            "hidden_size": own["embedding_length"],
            "intermediate_size": own["feed_forward_length"],
            "num_hidden_layers": own["block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": own.get("attention.head_count_kv", heads),
            "head_dim": _head_width(own),
            "max_position_embeddings": own["context_length"],
            "rms_norm_eps": own["attention.layer_norm_rms_epsilon"],
            "rope_parameters": {"rope_type": "default", "rope_theta": own.get("rope.freq_base", 10000.0)},
            "tie_word_embeddings": "lm_head.weight" not in tensors,
            "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": fields.get("tokenizer.ggml.padding_token_id"),
        }  # fmt: skip
    except (KeyError, TypeError) as problem:
        raise ConfigurationError(
            f"{path} lacks metadata of a {kind} model: {problem}; choose another file"
        ) from problem


def _refuse_changed_attention(own: dict[str, Any], path: Path) -> None:
    scaling = own.get("rope.scaling.type", "none")
    if scaling != "none":
        raise ConfigurationError(
            f"{path} scales its rotary embedding ({scaling}), which is not carried over from GGUF; "
            "upcycle the model's safetensors directory instead"
        )
    width = _head_width(own)
    turned = own.get("rope.dimension_count", width)
    if turned != width:
        raise ConfigurationError(
            f"{path} turns only {turned} of {width} dimensions of a head, which no mixture here can; "
            "choose another model"
        )
    if own.get("attention.sliding_window"):
        raise ConfigurationError(
            f"{path} sees through a sliding window, which is not carried over from GGUF; upcycle the "
            "model's safetensors directory instead"
        )


def _head_width(own: dict[str, Any]) -> int:
    whole = int(own["embedding_length"]) // int(own["attention.head_count"])
    return int(own.get("attention.key_length", whole))


def _tensor(tensor: Any, name: str, config: PreTrainedConfig) -> Tensor:
    import torch
    from gguf import dequantize

    values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()
    if config.model_type != "llama":
        return values
    if name.endswith("q_proj.weight"):
        return halves_from_pairs(values, config.num_attention_heads)
    if name.endswith("k_proj.weight"):
        return halves_from_pairs(values, config.num_key_value_heads or config.num_attention_heads)
    return values


def _write_text_side(path: Path, config: PreTrainedConfig, folder: Path) -> None:
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
