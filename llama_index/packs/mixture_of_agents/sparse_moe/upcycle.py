"""From a dense model to a sparse mixture of experts.

Sparse upcycling (arXiv 2212.05055): attention and norms stay as they are, each expert starts as the
dense feed-forward network, and a router is added. The result is a stock checkpoint that needs no code of
ours: Mixtral of Llama and Mistral, Qwen2-MoE of Qwen2, Qwen3-MoE of Qwen3. With equal experts and combine
weights that sum to one, it computes what the dense model computes. It knows nothing of running a model.

Shapes: E experts, D model width, S shared expert's width.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.loading import require_extra
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.card import card
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.dense_source import DenseSource, open_directory
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.folders import published_folder, require_free
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.gguf_source import open_gguf
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.mappings import moe_config, shared_width
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.recipe import UpcyclingRecipe
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.shards import write_shards

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[str], None]


def upcycle(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    experts: int = 4,
    top_k: int = 2,
    noise: float = 0.0,
    reinitialize: float = 0.0,
    router: str = "random",
    prompts: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Make a mixture-of-experts checkpoint of a dense Llama, Mistral, Qwen2 or Qwen3 model.

    The folder appears under its name only when it is complete, with tokenizer, chat template, generation
    config and a card that says what was made from what. Weights keep the source's dtype (float32 from
    GGUF). On one machine the same source, options and seed give the same files.

    Args:
        source: A safetensors checkpoint directory, or a .gguf file.
        destination: Folder to make; must not exist, or be empty.
        experts: Experts per layer, at least 2.
        top_k: Experts that each token is sent to, between 1 and `experts`.
        noise: How far each expert starts from the dense network: Gaussian noise is added to each of its
            three matrices, with so many times the matrix's standard deviation. SmolLM2-135M's perplexity on
            a few texts goes from 13.8 to 14.3 with 0.05, to 16.2 with 0.1, to 29.6 with 0.2.
        reinitialize: Share of each expert's intermediate units that is drawn anew from a normal
            distribution with mean and standard deviation of the dropped weights, the same units in all
            three matrices (drop-upcycling, arXiv 2502.19261, which found 0.5 best). It comes before noise.
            The result has to be trained: on the same texts, 0.05 gives a perplexity of 26, and 0.1 of 42.
        router: "random" draws small rows. "kmeans" fits them to the dense model's hidden states on prompts,
            so that routing is balanced and tells kinds of text apart from the first token.
        prompts: Texts for the k-means router, of as many kinds as the model will see; None takes our own.
            The first 128 tokens of each count; of more texts than fit a batch of 8192 tokens, padding
            included, evenly spaced ones are taken.
        seed: Of everything that is drawn.
        progress: Called with a short text at each stage.

    Returns:
        The destination.

    Raises:
        ConfigurationError: The source is not a whole model that maps, or an argument is not valid.
        MissingExtraError: torch, transformers, safetensors or, for a GGUF file, gguf is not installed.
    """
    origin, target = Path(source).expanduser(), Path(destination).expanduser()
    recipe = UpcyclingRecipe(experts, top_k, noise, reinitialize, router, prompts, seed)
    _check_places(origin, target)
    tell = progress or _silent
    tell(f"reading {origin.name}")
    with _opened(origin) as dense, published_folder(target) as folder:
        _require_space(folder, dense, experts)
        _fill(folder, dense, recipe, tell)
        tell("writing to disk")
    tell(f"made {target}")
    return target


def _silent(stage: str) -> None:
    """Stand in for a caller who does not want to know."""


def _check_places(origin: Path, target: Path) -> None:
    if not origin.exists():
        raise ConfigurationError(f"no model at {origin}; name a checkpoint directory or a .gguf file")
    if origin.is_file() and origin.suffix != ".gguf":
        raise ConfigurationError(f"{origin} is neither a checkpoint directory nor a .gguf file")
    require_free(target)


def _opened(origin: Path) -> AbstractContextManager[DenseSource]:
    is_gguf = origin.is_file()
    require_extra("upcycle", *(["gguf"] if is_gguf else []))
    return open_gguf(origin) if is_gguf else open_directory(origin)


def _require_space(folder: Path, dense: DenseSource, experts: int) -> None:
    element = dense.dtype().itemsize
    sizes = dense.shapes().items()
    needed = sum((experts if ".mlp." in name else 1) * math.prod(shape) for name, shape in sizes) * element
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigurationError(
            f"the mixture needs {needed / 1e9:.1f} GB and {folder.parent} has {free / 1e9:.1f} GB free; "
            "make room, choose another place, or fewer experts"
        )


def _fill(folder: Path, dense: DenseSource, recipe: UpcyclingRecipe, tell: Progress) -> None:
    # Not at the top: it needs torch.
    from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.router_init import make_routers

    config = moe_config(dense.mapping, dense.config, recipe.experts, recipe.top_k)
    config.dtype = dense.dtype()
    dense.write_text_side(folder)
    routers = make_routers(dense, folder, recipe, tell)
    write_shards(folder, moe_tensors(dense, recipe, routers.weights, tell))
    config.save_pretrained(folder)
    dtype = str(config.dtype).removeprefix("torch.")
    (folder / "README.md").write_text(card(dense, recipe, routers, dtype), encoding="utf-8")


def moe_tensors(
    dense: DenseSource, recipe: UpcyclingRecipe, routers: Sequence[Tensor], tell: Progress
) -> Iterator[tuple[str, Tensor]]:
    """Go through the mixture's tensors, reading each dense one when it is needed.

    Args:
        dense: Where they come from.
        recipe: How many experts, and how far apart.
        routers: weights_ED of each layer.
        tell: Called at each layer.

    Yields:
        Names as the mixture's checkpoints have them on disk, and tensors that share no memory.

    Raises:
        ConfigurationError: A tensor is not what the config says.
    """
    from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.divergence import expert_weights

    for name, shape in dense.shapes().items():
        tensor = dense.read_checked(name, shape)
        prefix, _, part = name.removesuffix(".weight").partition(".mlp.")
        if not part:
            yield name, tensor
            continue
        layer = int(prefix.rsplit(".", 1)[1])
        for expert in range(recipe.experts):
            weights = expert_weights(tensor, part, layer, expert, recipe)
            yield dense.mapping.expert_name(layer, expert, part), weights
        if part == "down_proj":
            yield dense.mapping.router_name(layer), routers[layer].to(tensor.dtype)
            yield from _shared_expert(dense, layer, recipe.seed, tensor)
            tell(f"layer {layer + 1} of {dense.config.num_hidden_layers}")


def _shared_expert(dense: DenseSource, layer: int, seed: int, like: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Make a shared expert that adds exactly nothing, where the mixture insists on one.

    Only its down projection is zero: with gate and up projection zero as well, no gradient would ever
    move it. The dense network itself cannot be the shared expert, as that is weighed by a sigmoid, which
    is less than one.
    """
    if not dense.mapping.shared_expert:
        return
    import torch

    from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.divergence import stream

    D, S = dense.config.hidden_size, shared_width(dense.config)
    deviation = dense.config.initializer_range
    block = f"model.layers.{layer}.{dense.mapping.block}"
    for part in ("gate_proj", "up_proj"):
        drawn_SD = torch.randn(S, D, generator=stream(seed, "shared", part, layer)) * deviation
        yield f"{block}.shared_expert.{part}.weight", drawn_SD.to(like.dtype)
    yield f"{block}.shared_expert.down_proj.weight", like.new_zeros(D, S)
    yield f"{block}.shared_expert_gate.weight", like.new_zeros(1, D)
