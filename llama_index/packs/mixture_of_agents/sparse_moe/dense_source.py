"""A dense Llama-architecture model as a source of tensors, read one at a time.

It refuses whatever a Mixtral checkpoint could not carry over unchanged. It does not know what is made
of the tensors.

Shapes: V vocabulary, D model width, F feed-forward width, H query heads, G key-value heads, Q head width.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.checkpoints import (
    Checkpoint,
    architecture,
    expert_count,
    read_checkpoint,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaConfig

# Tokenizer, chat template and licence, as they are.
_COPIED = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
    "generation_config.json", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE",
)  # fmt: skip


@dataclass(frozen=True)
class DenseSource:
    """An open dense model.

    Args:
        name: What it is called.
        origin: The path it is read from.
        licence: As its card or metadata says; None if they are silent.
        config: Its Llama config.
        names: Tensors it holds, in Llama's naming.
        read: Returns one of them.
        write_text_side: Puts tokenizer and chat template into a folder.
    """

    name: str
    origin: Path
    licence: str | None
    config: LlamaConfig
    names: frozenset[str]
    read: Callable[[str], Tensor]
    write_text_side: Callable[[Path], None]


def tensor_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """List every tensor of a Llama model with its shape, in the order of a forward pass.

    Args:
        config: The model's config.

    Returns:
        Shapes (rows, columns) by name; without lm_head where it is tied to the embeddings.
    """
    V, D, F = config.vocab_size, config.hidden_size, config.intermediate_size
    Q = config.head_dim or D // config.num_attention_heads
    HQ, GQ = config.num_attention_heads * Q, (config.num_key_value_heads or config.num_attention_heads) * Q
    layer = {
        "input_layernorm": (D,),
        "self_attn.q_proj": (HQ, D),
        "self_attn.k_proj": (GQ, D),
        "self_attn.v_proj": (GQ, D),
        "self_attn.o_proj": (D, HQ),
        "post_attention_layernorm": (D,),
        "mlp.gate_proj": (F, D),
        "mlp.up_proj": (F, D),
        "mlp.down_proj": (D, F),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, D)}
    for index in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (D,)
    return shapes if config.tie_word_embeddings else {**shapes, "lm_head.weight": (V, D)}


def require_mappable(config: Mapping[str, Any], origin: Path) -> None:
    """Refuse models that Mixtral's blocks cannot express.

    Args:
        config: The source's config.json, or the same made from GGUF metadata.
        origin: Named in the message.

    Raises:
        ConfigurationError: Not a dense Llama, biases, or quantised weights.
    """
    if expert_count(config) > 1:
        raise ConfigurationError(
            f"{origin} is a mixture of experts already ({architecture(config)}); use it as it is"
        )
    if config.get("model_type") != "llama":
        raise ConfigurationError(
            f"{origin} is {architecture(config)}; only dense Llama-architecture models (LlamaForCausalLM) "
            "can be upcycled into Mixtral. Choose such a model"
        )
    for name in ("attention_bias", "mlp_bias"):
        if config.get(name):
            raise ConfigurationError(
                f"{origin} has {name}, which Mixtral has no place for; choose a model without it"
            )
    if config.get("quantization_config"):
        raise ConfigurationError(
            f"{origin} has quantised weights; take the unquantised model, or a GGUF file of it"
        )


def require_tensors(names: frozenset[str], config: LlamaConfig, origin: Path) -> None:
    """Refuse a source whose tensors are not exactly those of its config.

    Raises:
        ConfigurationError: Names a tensor that is missing or that nothing is known of.
    """
    expected = set(tensor_shapes(config))
    if missing := sorted(expected - names):
        raise ConfigurationError(
            f"{origin} lacks {len(missing)} tensors, first {missing[0]}; download it again"
        )
    tied_copy = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if unknown := sorted(names - expected - tied_copy):
        raise ConfigurationError(
            f"{origin} has {len(unknown)} tensors that Mixtral has no place for, first "
            f"{unknown[0]}; choose a plain Llama-architecture model"
        )


@contextmanager
def open_llama_directory(path: Path) -> Iterator[DenseSource]:
    """Open a dense checkpoint directory.

    Raises:
        ConfigurationError: It is not a whole, mappable Llama checkpoint.
    """
    from safetensors import safe_open

    checkpoint = read_checkpoint(path)
    require_mappable(checkpoint.config, path)
    config = llama_config(checkpoint.config, path)
    with ExitStack() as opened:
        homes: dict[str, Any] = {}
        for file in checkpoint.weight_files:
            handle: Any = opened.enter_context(safe_open(str(file), framework="pt"))
            homes |= dict.fromkeys(list(handle.keys()), handle)
        # Old checkpoints store rotary tables, which are computed from the config.
        names = frozenset(name for name in homes if not name.endswith("rotary_emb.inv_freq"))
        require_tensors(names, config, path)
        yield DenseSource(
            name=checkpoint.directory.name,
            origin=path,
            licence=_card_licence(checkpoint.directory / "README.md"),
            config=config,
            names=names,
            read=lambda name: homes[name].get_tensor(name),
            write_text_side=lambda folder: _copy_text_side(checkpoint, folder),
        )


def llama_config(fields: Mapping[str, Any], origin: Path) -> LlamaConfig:
    """Make a config of plain fields.

    Raises:
        ConfigurationError: transformers refuses them.
    """
    from transformers import LlamaConfig

    try:
        config: LlamaConfig = LlamaConfig.from_dict(dict(fields))
    except Exception as problem:
        # Its validation raises whatever fits: ValueError, TypeError, KeyError, its own strict errors.
        raise ConfigurationError(
            f"the config of {origin} is not a valid Llama config: {problem}"
        ) from problem
    return config


def _copy_text_side(checkpoint: Checkpoint, folder: Path) -> None:
    for name in _COPIED:
        if (checkpoint.directory / name).is_file():
            shutil.copyfile(checkpoint.directory / name, folder / name)


def _card_licence(card: Path) -> str | None:
    """Read `license:` from the front matter of a model card."""
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    head = lines[1 : lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
    found = (line.split(":", 1)[1].strip() for line in head if line.startswith("license:"))
    return next(found, None) or None
