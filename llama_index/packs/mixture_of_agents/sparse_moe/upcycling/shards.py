"""Weights written as safetensors shards, so that a large model never has to be in memory at once.

It knows neither what the tensors are nor where they come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.sparse_moe.checkpoints import INDEX_FILE, SINGLE_FILE

if TYPE_CHECKING:
    from torch import Tensor

_SHARD_BYTES = 1_000_000_000


def write_shards(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write tensors as one file or several, with the names and the index that loaders look for.

    Args:
        folder: Where to.
        tensors: Names and tensors that share no memory; held until their shard is full.
    """
    shards: list[list[str]] = []
    held: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if held and sum(map(_bytes, held.values())) + _bytes(tensor) > _SHARD_BYTES:
            shards.append(_write_shard(folder, len(shards), held))
            held = {}
        held[name] = tensor
    shards.append(_write_shard(folder, len(shards), held))
    _name_shards(folder, shards)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _write_shard(folder: Path, index: int, tensors: dict[str, Tensor]) -> list[str]:
    from safetensors.torch import save_file

    save_file(tensors, str(folder / f"shard-{index}"), metadata={"format": "pt"})
    return list(tensors)


def _name_shards(folder: Path, shards: list[list[str]]) -> None:
    """Give shards their names, now that their number is known."""
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
