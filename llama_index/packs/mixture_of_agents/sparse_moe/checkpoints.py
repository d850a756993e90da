"""Is this directory a whole model checkpoint, and is it a mixture of experts?

Answers from the files alone, before anything is loaded: config, every weight shard against its own
header, tokenizer. It refuses with what was found and what to do. It loads no weights and needs
neither torch nor transformers, nor does it know what will be done with the checkpoint.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")

_EXPERT_COUNTS = (
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "moe_num_experts",
    "num_moe_experts",
)
_NESTED_CONFIGS = ("text_config", "ffn_config", "llm_config", "language_config")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# safetensors' own limit for the JSON at the start of a file; more means it is something else.
_LARGEST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint directory that was found whole.

    Args:
        directory: Resolved path.
        config: The content of config.json.
        weight_files: The safetensors files, in the order of their names.
    """

    directory: Path
    config: Mapping[str, Any]
    weight_files: tuple[Path, ...]


def expert_count(config: Mapping[str, Any]) -> int:
    """Count the experts per layer that a model config announces.

    Args:
        config: A config.json as a mapping; nested text configs are looked into.

    Returns:
        The largest number found; 0 or 1 means the model is dense.
    """
    values = [config.get(name) for name in _EXPERT_COUNTS]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    counts = [item for item in flat if isinstance(item, int) and not isinstance(item, bool)]
    nested = [config[name] for name in _NESTED_CONFIGS if isinstance(config.get(name), Mapping)]
    return max([*counts, *(expert_count(inner) for inner in nested)], default=0)


def architecture(config: Mapping[str, Any]) -> str:
    """Name the architecture of a config: its class, else its model_type, else "unknown"."""
    names = config.get("architectures") or [config.get("model_type") or "unknown"]
    return str(names[0])


def context_window(config: Mapping[str, Any]) -> int | None:
    """Find how many tokens a model takes, prompt and answer together, or None if the config is silent."""
    nested = [config[name] for name in _NESTED_CONFIGS if isinstance(config.get(name), Mapping)]
    found = (layer.get("max_position_embeddings") for layer in (config, *nested))
    return next((value for value in found if isinstance(value, int)), None)


def require_moe(config: Mapping[str, Any]) -> None:
    """Refuse a dense model.

    Raises:
        ConfigurationError: The config announces fewer than two experts.
    """
    if expert_count(config) < 2:
        raise ConfigurationError(
            f"not a mixture of experts: {architecture(config)}; upcycle it with `moa upcycle SRC DST`"
        )


def read_checkpoint(directory: Path, *, tokenizer_expected: bool = True) -> Checkpoint:
    """Check a model directory without loading it.

    Args:
        directory: What the user named.
        tokenizer_expected: Whether a missing tokenizer is a fault.

    Returns:
        The checkpoint, whole as far as its files tell.

    Raises:
        ConfigurationError: Not a directory, no or broken config, weights missing, truncated or
            pickled, no tokenizer.
    """
    _require_directory(directory)
    config = read_json(directory / "config.json")
    weight_files = _weight_files(directory)
    if tokenizer_expected and not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise ConfigurationError(
            f"no tokenizer in {directory}: none of {', '.join(TOKENIZER_FILES)} is there. Copy the "
            "model's tokenizer files into it, or pass tokenizer="
        )
    return Checkpoint(directory.resolve(), config, weight_files)


def _require_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    if directory.suffix == ".gguf":
        raise ConfigurationError(
            f"{directory} is a GGUF file, not a checkpoint directory; if it is a dense model, make "
            "one of it with `moa upcycle SRC DST`"
        )
    raise ConfigurationError(
        f"no model directory at {directory}. Only local directories are loaded: download the model first, "
        "or make one with `moa upcycle SRC DST`"
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ConfigurationError: Missing, unreadable, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path.name} is missing in {path.parent}; download the model again"
        ) from None
    except (OSError, ValueError) as problem:
        raise ConfigurationError(f"{path} cannot be read ({problem}); download the model again") from problem
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} does not hold a JSON object; download the model again")
    return content


def _weight_files(directory: Path) -> tuple[Path, ...]:
    if (directory / INDEX_FILE).is_file():
        return _indexed_files(directory)
    single = directory / SINGLE_FILE
    if single.is_file():
        safetensors_names(single)
        return (single,)
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickles:
        raise ConfigurationError(
            f"the weights in {directory} are pickled ({pickles[0]}), and loading a pickle runs code from it. "
            "Only safetensors are loaded: download the safetensors version, or convert the model"
        )
    raise ConfigurationError(
        f"no weights in {directory}: no {SINGLE_FILE} and no {INDEX_FILE}; download the model again"
    )


def _indexed_files(directory: Path) -> tuple[Path, ...]:
    weight_map = read_json(directory / INDEX_FILE).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConfigurationError(f"{INDEX_FILE} in {directory} lists no weights; download the model again")
    files = sorted({str(name) for name in weight_map.values()})
    for name in files:
        if Path(name).name != name:
            raise ConfigurationError(f"{INDEX_FILE} in {directory} names a file outside of it: {name}")
        absent = {key for key, home in weight_map.items() if home == name} - safetensors_names(
            directory / name
        )
        if absent:
            raise ConfigurationError(
                f"{directory / name} lacks {len(absent)} tensors that {INDEX_FILE} promises, first "
                f"{min(absent)}; download it again"
            )
    return tuple(directory / name for name in files)


def safetensors_names(path: Path) -> set[str]:
    """List the tensors of a safetensors file, after checking that the file is whole.

    The file is 8 bytes of little-endian header length, the JSON header, then the tensors to the last
    byte (https://github.com/huggingface/safetensors#format).

    Raises:
        ConfigurationError: Missing, truncated, or not safetensors.
    """
    header, data_bytes = _safetensors_header(path)
    header.pop("__metadata__", None)
    try:
        expected = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (TypeError, KeyError, IndexError, ValueError) as problem:
        raise ConfigurationError(f"{path} is not a safetensors file: {problem!r}") from problem
    if data_bytes != expected:
        raise ConfigurationError(
            f"{path} is truncated or damaged: {data_bytes} bytes of weights, {expected} expected; "
            "download it again"
        )
    return set(header)


def _safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
            if length > min(_LARGEST_HEADER_BYTES, size - 8):
                raise ConfigurationError(
                    f"{path} is truncated or no safetensors file ({size} bytes; a git-lfs pointer?); "
                    "download it again"
                )
            return dict(json.loads(file.read(length))), size - 8 - length
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path.name} is missing in {path.parent}; the model is half-written, download that file again"
        ) from None
    except (OSError, ValueError) as problem:
        # ConfigurationError is a ValueError: what was said above must not be said twice.
        if isinstance(problem, ConfigurationError):
            raise
        raise ConfigurationError(f"{path} is not a readable safetensors file: {problem}") from problem
