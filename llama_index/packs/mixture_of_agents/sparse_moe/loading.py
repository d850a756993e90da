"""From a checkpoint on disk, or a model in memory, to the one engine that serves it.

Whoever opens the same weights gets the same engine, so they are held once and one thread owns them.
The registry holds engines weakly: when the last user is gone, so are the weights. It knows
transformers, but neither text nor LlamaIndex.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.checkpoints import Checkpoint, architecture, require_moe
from llama_index.packs.mixture_of_agents.sparse_moe.options import DEVICE_DTYPES

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine

_engines: weakref.WeakValueDictionary[Hashable, Engine] = weakref.WeakValueDictionary()
_engines_lock = threading.Lock()
_progress_bars_lock = threading.Lock()


def require_extra(feature: str, *libraries: str) -> None:
    """Refuse to go on without the libraries of the `sparse-moe` extra.

    Raises:
        MissingExtraError: Names the pip command.
    """
    if any(find_spec(name) is None for name in ("torch", "transformers", "safetensors", *libraries)):
        raise MissingExtraError(feature, "sparse-moe")


def shared_engine(key: Hashable, load: Callable[[], PreTrainedModel]) -> Engine:
    """Return the engine of these weights, making it if nobody holds an open one.

    Args:
        key: Names the weights.
        load: Loads them; called in the engine's thread, at its first request.

    Returns:
        An engine that takes requests.
    """
    from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine

    with _engines_lock:
        engine = _engines.get(key)
        if engine is None or engine.closed:
            engine = _engines[key] = Engine(load)
        return engine


def engine_of_checkpoint(checkpoint: Checkpoint, device: str, dtype: str, quantize: str | None) -> Engine:
    """Return the engine of a checkpoint directory. Nothing is loaded yet.

    Raises:
        ConfigurationError: An unknown device or dtype.
    """
    place, precision = _device(device), _dtype(dtype)
    # A directory that was written anew is another model, whoever still holds the old one.
    files = (checkpoint.directory / "config.json", *checkpoint.weight_files)
    versions = tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    key = (str(checkpoint.directory), str(place), str(precision), quantize, versions)

    def load() -> PreTrainedModel:
        _require_room(checkpoint, place, precision)
        model = load_model(checkpoint.directory, place, precision)
        return _quantized(model, quantize, in_place=True)

    return shared_engine(key, load)


def _require_room(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype | None) -> None:
    import torch

    from llama_index.packs.mixture_of_agents.sparse_moe.serving.memory import require_memory

    needed = sum(path.stat().st_size for path in checkpoint.weight_files)
    stored = getattr(torch, str(checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype")), None)
    if dtype is not None and isinstance(stored, torch.dtype):
        needed = needed * dtype.itemsize // stored.itemsize
    remedy = "free some, or load a smaller model or dtype='bfloat16'"
    require_memory(f"loading {checkpoint.directory.name}", needed, device, remedy)


def _quantized(model: PreTrainedModel, scheme: str | None, *, in_place: bool) -> PreTrainedModel:
    if scheme is None:
        return model
    from llama_index.packs.mixture_of_agents.sparse_moe.quantize import quantize_model
    from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import lock_of

    with lock_of(model):
        return quantize_model(model, scheme, in_place=in_place)


def engine_of_model(model: PreTrainedModel, quantize: str | None = None) -> Engine:
    """Return the engine of a model that the caller loaded. The model is used as it is.

    With `quantize` the engine runs a copy, which shares with the model what is not quantised.

    Raises:
        ConfigurationError: Not a causal mixture-of-experts model of transformers, or in training mode.
    """
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise ConfigurationError(
            f"model={type(model).__name__} is not valid; it must be a directory or a loaded "
            "transformers PreTrainedModel"
        )
    require_moe({**model.config.to_dict(), "architectures": [type(model).__name__]})
    if not model.can_generate():
        raise ConfigurationError(f"{type(model).__name__} has no language-model head; load it as a causal LM")
    if not model.dtype.is_floating_point:
        raise ConfigurationError(
            f"the model computes in {model.dtype}; load it as float32, bfloat16 or float16"
        )
    if model.training:
        raise ConfigurationError(
            "the model is in training mode, where dropout changes answers; call model.eval()"
        )
    if quantize is not None:
        from llama_index.packs.mixture_of_agents.sparse_moe.quantize import check_quantizable

        check_quantizable(model)
    # The engine refers to the model, so its id stays taken as long as the entry lives.
    key = ("model in memory", id(model), quantize)
    return shared_engine(key, lambda: _quantized(model, quantize, in_place=False))


def whole_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read a checkpoint's config as transformers does, its class's defaults filled in.

    Raises:
        ConfigurationError: transformers does not know it, it needs remote code, or a value is not valid.
    """
    from transformers import CONFIG_MAPPING

    model_type = str(checkpoint.config.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        own_code = "it brings code of its own, which is never run" if "auto_map" in checkpoint.config else ""
        raise ConfigurationError(
            f"{architecture(checkpoint.config)} (model_type {model_type!r}) cannot be loaded: "
            f"{own_code or 'the installed transformers does not know it'}. Upgrade transformers, or load the "
            "model yourself and pass the object"
        )
    try:
        return CONFIG_MAPPING[model_type].from_dict(dict(checkpoint.config)).to_dict()
    except Exception as problem:
        # Its validation raises whatever fits: ValueError, TypeError, KeyError, its own strict errors.
        raise ConfigurationError(
            f"config.json in {checkpoint.directory} is not valid: {problem}; download the model again"
        ) from problem


def _device(name: str) -> torch.device:
    import torch

    has_gpu = torch.cuda.is_available()
    try:
        device = torch.device(("cuda" if has_gpu else "cpu") if name == "auto" else name)
    except (RuntimeError, TypeError) as problem:
        raise ConfigurationError(
            f"device={name!r} is not valid ({problem}); try 'auto' or 'cpu'"
        ) from problem
    if device.type == "cuda" and not has_gpu:
        raise ConfigurationError(f"device={name!r}, but torch sees no GPU here; use 'auto' or 'cpu'")
    return device


def _dtype(name: str) -> torch.dtype | None:
    import torch

    if name not in DEVICE_DTYPES:
        raise ConfigurationError(f"dtype={name!r} is not valid; it must be one of {', '.join(DEVICE_DTYPES)}")
    return None if name == "auto" else getattr(torch, name)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keep transformers' loading bar out of the terminal, which belongs to the application."""
    from transformers.utils import logging

    with _progress_bars_lock:
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            if shown:
                logging.enable_progress_bar()


def load_model(directory: Path, device: torch.device, dtype: torch.dtype | None) -> PreTrainedModel:
    """Load a causal language model from safetensors, without remote code and without a network.

    Args:
        directory: A checkpoint directory.
        device: Where to put it.
        dtype: Precision of the weights; None keeps the checkpoint's own.

    Returns:
        The model, in eval mode.

    Raises:
        SparseMoEError: It could not be loaded, or weights are missing from it.
    """
    from transformers import AutoModelForCausalLM

    try:
        with _without_progress_bars():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(directory),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype if dtype is not None else "auto",
                output_loading_info=True,
            )
        model, report = loaded
        _require_complete(directory, report)
        return _placed(model, device)
    except (OSError, ValueError, RuntimeError, MemoryError, ImportError) as problem:
        raise SparseMoEError(
            f"the model in {directory} could not be loaded: {problem}", causes=[problem]
        ) from problem


def _placed(model: Any, device: torch.device) -> PreTrainedModel:
    placed: PreTrainedModel = model.to(device).eval()
    return placed


def _require_complete(directory: Path, report: dict[str, Any]) -> None:
    faults = sorted(map(str, [*report.get("missing_keys", ()), *report.get("mismatched_keys", ())]))
    if faults:
        # transformers would go on with random numbers in their place.
        raise ConfigurationError(
            f"{len(faults)} weights are missing from {directory} or have the wrong shape, first {faults[0]}; "
            "the config does not belong to these weights. Download the model again"
        )
