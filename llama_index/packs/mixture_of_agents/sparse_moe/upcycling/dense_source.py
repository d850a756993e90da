"""A dense model as a source of tensors, read one at a time.

It refuses whatever is not exactly what its config says. It does not know what is made of the tensors.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.checkpoints import Checkpoint, read_checkpoint
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.mappings import (
    StockMapping,
    dense_config,
    mapping_of,
    tensor_shapes,
)

if TYPE_CHECKING:
    from torch import Tensor, dtype
    from transformers import PreTrainedConfig

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
        files: The files with its weights.
        licence: As its card or metadata says; None if they are silent.
        mapping: What it becomes.
        config: Its config.
        read: Returns one of its tensors, by transformers' name for it.
        write_text_side: Puts tokenizer and chat template into a folder.
    """

    name: str
    origin: Path
    files: tuple[Path, ...]
    licence: str | None
    mapping: StockMapping
    config: PreTrainedConfig
    read: Callable[[str], Tensor]
    write_text_side: Callable[[Path], None]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """List its tensors with their shapes, in the order of a forward pass."""
        return tensor_shapes(self.mapping, self.config)

    def dtype(self) -> dtype:
        """Say what most of its weights are: norms may be kept in a wider type."""
        return self.read("model.layers.0.mlp.down_proj.weight").dtype

    def read_checked(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Read a tensor that must look like this.

        Raises:
            ConfigurationError: Another shape, or numbers that are no weights.
        """
        tensor = self.read(name)
        if tuple(tensor.shape) != shape:
            raise ConfigurationError(
                f"{name} in {self.origin} has shape {tuple(tensor.shape)}, its config says {shape}; "
                "the config does not belong to these weights"
            )
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise ConfigurationError(
                f"{name} in {self.origin} holds {str(tensor.dtype).removeprefix('torch.')}, not float32, "
                "float16 or bfloat16; take the unquantised model"
            )
        return tensor.contiguous()


def require_tensors(
    names: frozenset[str], mapping: StockMapping, config: PreTrainedConfig, origin: Path
) -> None:
    """Refuse a source whose tensors are not exactly those of its config.

    Raises:
        ConfigurationError: Names a tensor that is missing or that nothing is known of.
    """
    expected = set(tensor_shapes(mapping, config))
    if missing := sorted(expected - names):
        raise ConfigurationError(
            f"{origin} lacks {len(missing)} tensors, first {missing[0]}; download it again"
        )
    tied_copy = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if unknown := sorted(names - expected - tied_copy):
        raise ConfigurationError(
            f"{origin} has {len(unknown)} tensors that {mapping.moe_class} has no place for, first "
            f"{unknown[0]}; choose a plain {mapping.dense_class} model"
        )


@contextmanager
def open_directory(path: Path) -> Iterator[DenseSource]:
    """Open a dense checkpoint directory.

    Raises:
        ConfigurationError: It is not a whole checkpoint, or nothing stock can be made of it.
    """
    from safetensors import safe_open

    checkpoint = read_checkpoint(path)
    mapping = mapping_of(checkpoint.config, path)
    config = dense_config(mapping, checkpoint.config, path)
    with ExitStack() as opened:
        homes: dict[str, Any] = {}
        for file in checkpoint.weight_files:
            handle: Any = opened.enter_context(safe_open(str(file), framework="pt"))
            homes |= dict.fromkeys(list(handle.keys()), handle)
        # Old checkpoints store rotary tables, which are computed from the config.
        names = frozenset(name for name in homes if not name.endswith("rotary_emb.inv_freq"))
        require_tensors(names, mapping, config, path)
        yield DenseSource(
            name=checkpoint.directory.name,
            origin=path,
            files=checkpoint.weight_files,
            licence=_card_licence(checkpoint.directory / "README.md"),
            mapping=mapping,
            config=config,
            read=lambda name: homes[name].get_tensor(name),
            write_text_side=lambda folder: _copy_text_side(checkpoint, folder),
        )


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
