"""From a dense Llama-architecture model to a sparse mixture of experts.

Sparse upcycling (arXiv 2212.05055): attention and norms stay as they are, each expert starts as a copy
of the dense feed-forward network, and a router is added. The result is a stock Mixtral checkpoint that
needs no code of ours. With equal experts and combine weights that sum to one, it computes what the
dense model computes; the experts can then be trained apart. It knows nothing of running a model.

Shapes: E experts, D model width.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.checkpoints import INDEX_FILE, SINGLE_FILE
from llama_index.packs.mixture_of_agents.sparse_moe.dense_source import (
    DenseSource,
    open_llama_directory,
    tensor_shapes,
)
from llama_index.packs.mixture_of_agents.sparse_moe.folders import published_folder, require_free
from llama_index.packs.mixture_of_agents.sparse_moe.gguf_source import open_llama_gguf
from llama_index.packs.mixture_of_agents.sparse_moe.loading import require_extra
from llama_index.packs.mixture_of_agents.sparse_moe.requests import require_count

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from transformers import LlamaConfig, MixtralConfig

Progress = Callable[[str], None]

# Mixtral's names on disk: w1 is the gate, w3 the up and w2 the down projection.
_EXPERT_PARTS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
_SHARD_BYTES = 1_000_000_000
_CARRIED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "initializer_range",
    "rms_norm_eps", "rope_parameters", "attention_dropout", "tie_word_embeddings", "bos_token_id",
    "eos_token_id", "pad_token_id",
)  # fmt: skip


def upcycle(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    experts: int = 4,
    top_k: int = 2,
    progress: Progress | None = None,
) -> Path:
    """Make a Mixtral checkpoint of a dense Llama-architecture model.

    The folder appears under its name only when it is complete, with tokenizer, chat template, generation
    config and a card that says what was made from what. Weights keep the source's dtype (float32 from
    GGUF). The router is random with a fixed seed, so the same source gives the same files.

    Args:
        source: A safetensors checkpoint directory, or a .gguf file.
        destination: Folder to make; must not exist, or be empty.
        experts: Experts per layer, at least 2.
        top_k: Experts that each token is sent to, between 1 and `experts`.
        progress: Called with a short text at each stage.

    Returns:
        The destination.

    Raises:
        ConfigurationError: The source is not a whole model that maps, or an argument is not valid.
        MissingExtraError: torch, transformers, safetensors or, for a GGUF file, gguf is not installed.
    """
    origin, target = Path(source).expanduser(), Path(destination).expanduser()
    _check_arguments(origin, target, experts, top_k)
    tell = progress or _silent
    tell(f"reading {origin.name}")
    with _opened(origin) as dense:
        config = mixtral_config(dense.config, experts, top_k)
        with published_folder(target) as folder:
            _require_space(folder, dense, experts)
            dense.write_text_side(folder)
            _write_weights(folder, config, moe_tensors(dense, experts, tell))
            (folder / "README.md").write_text(_card(dense, experts, top_k), encoding="utf-8")
            tell("writing to disk")
    tell(f"made {target}")
    return target


def _silent(stage: str) -> None:
    """Stand in for a caller who does not want to know."""


def _check_arguments(origin: Path, target: Path, experts: int, top_k: int) -> None:
    require_count("top_k", top_k)
    require_count("experts", experts)
    if experts < 2:
        raise ConfigurationError(f"experts={experts} makes no mixture; it must be at least 2")
    if top_k > experts:
        raise ConfigurationError(
            f"top_k={top_k} is more than experts={experts}; it must be between 1 and {experts}"
        )
    if not origin.exists():
        raise ConfigurationError(f"no model at {origin}; name a checkpoint directory or a .gguf file")
    if origin.is_file() and origin.suffix != ".gguf":
        raise ConfigurationError(f"{origin} is neither a checkpoint directory nor a .gguf file")
    require_free(target)


def _opened(origin: Path) -> AbstractContextManager[DenseSource]:
    is_gguf = origin.is_file()
    require_extra("upcycle", *(["gguf"] if is_gguf else []))
    return open_llama_gguf(origin) if is_gguf else open_llama_directory(origin)


def mixtral_config(dense: LlamaConfig, experts: int, top_k: int) -> MixtralConfig:
    """Say of the mixture what holds for the dense model, and how its experts are chosen."""
    from transformers import MixtralConfig

    carried = {name: getattr(dense, name) for name in _CARRIED}
    return MixtralConfig(
        **carried, num_local_experts=experts, num_experts_per_tok=top_k, architectures=["MixtralForCausalLM"]
    )


def moe_tensors(dense: DenseSource, experts: int, tell: Progress) -> Iterator[tuple[str, Tensor]]:
    """Go through the mixture's tensors, reading each dense one when it is needed.

    Args:
        dense: Where they come from.
        experts: E.
        tell: Called at each layer.

    Yields:
        Names as Mixtral checkpoints have them on disk, and tensors that share no memory.

    Raises:
        ConfigurationError: A tensor does not have the shape that its config says.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    for name, shape in tensor_shapes(dense.config).items():
        tensor = dense.read(name).contiguous()
        if tuple(tensor.shape) != shape:
            raise ConfigurationError(
                f"{name} in {dense.origin} has shape {tuple(tensor.shape)}, its config says {shape}; "
                "the config does not belong to these weights"
            )
        prefix, _, part = name.removesuffix(".weight").partition(".mlp.")
        if not part:
            yield name, tensor
            continue
        for index in range(experts):
            yield f"{prefix}.block_sparse_moe.experts.{index}.{_EXPERT_PARTS[part]}.weight", tensor.clone()
        if part == "down_proj":
            yield f"{prefix}.block_sparse_moe.gate.weight", _router(dense, experts, tensor, generator)
            tell(f"layer {int(prefix.rsplit('.', 1)[1]) + 1} of {dense.config.num_hidden_layers}")


def _router(dense: DenseSource, experts: int, like: Tensor, generator: Generator) -> Tensor:
    """Small random rows: with zeros every token would tie, and the first experts would get them all."""
    import torch

    gate_ED = torch.empty(experts, dense.config.hidden_size).normal_(
        0.0, dense.config.initializer_range, generator=generator
    )
    return gate_ED.to(like.dtype)


def _require_space(folder: Path, dense: DenseSource, experts: int) -> None:
    element = dense.read("model.norm.weight").element_size()
    sizes = tensor_shapes(dense.config).items()
    needed = sum((experts if ".mlp." in name else 1) * _count(shape) for name, shape in sizes) * element
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigurationError(
            f"the mixture needs {needed / 1e9:.1f} GB and {folder.parent} has {free / 1e9:.1f} GB free; "
            "make room, choose another place, or fewer experts"
        )


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def _write_weights(folder: Path, config: MixtralConfig, tensors: Iterator[tuple[str, Tensor]]) -> None:
    """Write shards of a bounded size, so that a large model never has to be in memory at once."""
    shards: list[list[str]] = []
    held: dict[str, Tensor] = {}
    for name, tensor in tensors:
        config.dtype = tensor.dtype
        if held and sum(map(_bytes, held.values())) + _bytes(tensor) > _SHARD_BYTES:
            shards.append(_write_shard(folder, len(shards), held))
            held = {}
        held[name] = tensor
    shards.append(_write_shard(folder, len(shards), held))
    _name_shards(folder, shards)
    config.save_pretrained(folder)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _write_shard(folder: Path, index: int, tensors: dict[str, Tensor]) -> list[str]:
    from safetensors.torch import save_file

    save_file(tensors, str(folder / f"shard-{index}"), metadata={"format": "pt"})
    return list(tensors)


def _name_shards(folder: Path, shards: list[list[str]]) -> None:
    """Give shards the names that loaders look for, now that their number is known."""
    if len(shards) == 1:
        (folder / "shard-0").rename(folder / SINGLE_FILE)
        return
    weight_map: dict[str, str] = {}
    for index, names in enumerate(shards):
        file = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"shard-{index}").rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    total = sum(path.stat().st_size for path in folder.glob("model-*.safetensors"))
    index_text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
    (folder / INDEX_FILE).write_text(index_text + "\n", encoding="utf-8")


def _card(dense: DenseSource, experts: int, top_k: int) -> str:
    licence = dense.licence or "unknown: ask whoever made the source model"
    front = f"---\nlicense: {dense.licence}\n---\n\n" if dense.licence else ""
    return f"""{front}# {dense.name}, upcycled to {experts} experts

A sparse mixture of experts (`MixtralForCausalLM`, {experts} experts, {top_k} per token) made by
`moa upcycle` from the dense model {dense.name} ({dense.origin.name}).

- Attention, norms and embeddings are the dense model's own.
- Each expert is a copy of the dense feed-forward network; the router is random (seed 0).
- So its answers are the dense model's answers, until the experts are trained apart.
- Licence of the source model: {licence}. It holds for this copy too.
"""
