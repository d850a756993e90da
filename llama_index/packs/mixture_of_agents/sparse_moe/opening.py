"""From a directory, or a model in memory, to a `LocalModel`: everything that can be refused is refused here.

It knows transformers' tokenizers and configs, but neither LlamaIndex nor what will be asked.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.checkpoints import (
    architecture,
    context_window,
    expert_count,
    read_checkpoint,
    read_json,
    require_moe,
)
from llama_index.packs.mixture_of_agents.sparse_moe.loading import (
    engine_of_checkpoint,
    engine_of_model,
    whole_config,
)
from llama_index.packs.mixture_of_agents.sparse_moe.local_model import LocalModel
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine


def open_model(
    model: Any, tokenizer: object, device: str, dtype: str, quantize: str | None, routing: RoutingSettings
) -> LocalModel:
    """Open a directory or a model in memory, whichever `model` is; see the two functions below."""
    opener = open_directory if isinstance(model, str | PathLike) else open_loaded
    return opener(model, tokenizer, device, dtype, quantize, routing)


def open_directory(
    path: str | PathLike[str],
    tokenizer: object = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str | None = None,
    routing: RoutingSettings | None = None,
) -> LocalModel:
    """Check a checkpoint directory and open it; its weights are loaded at the first request.

    Args:
        path: The directory.
        tokenizer: A tokenizer, a directory that has one, or None for the checkpoint's own.
        device: "auto" (a GPU if there is one), "cpu", "cuda:0", ...
        dtype: "auto" (the checkpoint's own), "float32", "bfloat16" or "float16".
        quantize: None or "int8".
        routing: How tokens are to go to experts; what only the weights can tell is checked when they are
            loaded.

    Returns:
        The open model.

    Raises:
        ConfigurationError: The directory is not a whole mixture-of-experts checkpoint, or has fewer experts
            than `routing` wants per token.
    """
    checkpoint = read_checkpoint(Path(fspath(path)).expanduser(), tokenizer_expected=tokenizer is None)
    require_moe(checkpoint.config)
    config = whole_config(checkpoint)
    _require_experts(config, routing)
    if quantize is not None and checkpoint.config.get("quantization_config"):
        raise ConfigurationError(
            f"quantize={quantize!r}, but the weights in {checkpoint.directory} are quantised already; leave "
            "quantize unset, or take the unquantised model"
        )
    generation_file = checkpoint.directory / "generation_config.json"
    generation = read_json(generation_file) if generation_file.is_file() else {}
    engine = engine_of_checkpoint(checkpoint, device, dtype, quantize)
    text_side = _own_tokenizer(checkpoint.directory if tokenizer is None else tokenizer)
    return _assembled(checkpoint.directory.name, engine, text_side, config, generation)


def _require_experts(config: Mapping[str, Any], routing: RoutingSettings | None) -> None:
    experts = expert_count(config)
    if routing is not None and routing.top_k is not None and routing.top_k > experts:
        raise ConfigurationError(
            f"top_k={routing.top_k} is more than the {experts} experts of {architecture(config)}; it must be "
            f"between 1 and {experts}"
        )


def open_loaded(
    model: PreTrainedModel,
    tokenizer: object = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str | None = None,
    routing: RoutingSettings | None = None,
) -> LocalModel:
    """Open a model that is already in memory; it stays where and as it is.

    Args:
        model: A causal language model of transformers, in eval mode.
        tokenizer: A tokenizer, a directory that has one, or None for the one at `model.name_or_path`.
        device: Must be "auto".
        dtype: Must be "auto".
        quantize: None, or "int8" to run a copy with smaller weights; the model itself stays as it is.
        routing: How tokens are to go to experts.

    Returns:
        The open model.

    Raises:
        ConfigurationError: Not a mixture of experts, in training mode, no tokenizer to be found, or routing
            that this architecture cannot do.
    """
    if (device, dtype) != ("auto", "auto"):
        raise ConfigurationError(
            f"device={device!r}, dtype={dtype!r} with a loaded model: it stays as it is. Move it with "
            "model.to(...) before, and leave both at 'auto'"
        )
    engine = engine_of_model(model, quantize)
    _require_experts({**model.config.to_dict(), "architectures": [type(model).__name__]}, routing)
    if routing is not None and (routing.limited or routing.top_k is not None):
        from llama_index.packs.mixture_of_agents.sparse_moe.experts import check_routing
        from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import find_moe_layers

        check_routing(find_moe_layers(model), routing)
    home = str(getattr(model, "name_or_path", "") or "")
    if tokenizer is None and not (home and Path(home).is_dir()):
        raise ConfigurationError(
            f"no tokenizer for the loaded model: its name_or_path is {home!r}, no directory. Pass tokenizer="
        )
    generation = model.generation_config.to_dict()
    text_side = _own_tokenizer(home if tokenizer is None else tokenizer)
    return _assembled(loaded_name(model), engine, text_side, model.config.to_dict(), generation)


def loaded_name(model: PreTrainedModel) -> str:
    """Name a model in memory: the last part of its name_or_path, else its class."""
    return Path(str(model.name_or_path)).name or type(model).__name__


def _own_tokenizer(source: object) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    if isinstance(source, PreTrainedTokenizerBase):
        # Its owner may switch truncation or padding on, which fast tokenizers keep as state.
        return copy.deepcopy(source)
    if not isinstance(source, str | PathLike):
        raise ConfigurationError(
            f"tokenizer={type(source).__name__} is not valid; it must be a directory or a tokenizer object"
        )
    try:
        loaded: Any = AutoTokenizer.from_pretrained(
            fspath(source), local_files_only=True, trust_remote_code=False
        )
    except Exception as problem:
        # Tokenizer files fail in as many ways as there are formats, the Rust ones with a bare Exception.
        raise ConfigurationError(f"the tokenizer in {source} cannot be loaded: {problem}") from problem
    if not isinstance(loaded, PreTrainedTokenizerBase):
        raise ConfigurationError(f"{source} holds no tokenizer that this transformers knows")
    return loaded


def _assembled(
    name: str,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
) -> LocalModel:
    window, vocabulary = context_window(config), _text_value(config, "vocab_size")
    if window is None or not isinstance(vocabulary, int):
        raise ConfigurationError(
            f"the config of {name} does not say its max_position_embeddings and vocab_size; add them to it"
        )
    end = generation.get("eos_token_id")
    ends = (_text_value(config, "eos_token_id") if end is None else end, tokenizer.eos_token_id)
    flat = (item for end in ends for item in (end if isinstance(end, list) else [end]))
    stop_ids = frozenset(item for item in flat if isinstance(item, int))
    return LocalModel(name, engine, tokenizer, window, vocabulary, stop_ids)


def _text_value(config: Mapping[str, Any], name: str) -> object:
    inner = config.get("text_config")
    return config.get(name, inner.get(name) if isinstance(inner, Mapping) else None)
