"""Bring a model's weights to 8 bits: which parts, and without touching the model it is asked about.

Weight-only: activations stay floats. Quantised are linear layers (attention, dense and shared feed-forward
blocks, a Mamba block's large projections in and out) and the stacked weights of experts. What stays, and why:

- embeddings and the output head: often one tensor, and what is rounded there goes straight into the logits;
- what chooses (routers, gates of shared experts, indexers of sparse attention): small, and a rounding there
  sends a token elsewhere;
- norms, biases, attention sinks: small;
- the small parts of recurrent blocks (convolution, step sizes, decays): errors there add up over a sequence.

It knows how a model is put together, but neither how 8-bit weights are multiplied nor what the model is for.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.int8 import Int8ExpertWeight, Int8Linear
from llama_index.packs.mixture_of_agents.sparse_moe.options import check_quantization

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Model = TypeVar("Model", bound=nn.Module)

_EXPERT_WEIGHTS = ("gate_up_proj", "up_proj", "down_proj")
_KEPT_PARTS = (
    # What chooses.
    r"gate|wg|indexer|[^.]*router[^.]*|[^.]*expert_gate",
    # Step sizes and decays of recurrent blocks.
    r"x_proj|dt_proj|b_proj|f_[ab]_proj|in_proj_(?:a|b|ba)|forget_gate",
)
_KEPT = re.compile(rf"(?:^|\.)(?:{'|'.join(_KEPT_PARTS)})(?:\.|$)")


def quantize_model(
    model: PreTrainedModel, scheme: str = "int8", *, in_place: bool = False
) -> PreTrainedModel:
    """Return a model that keeps most of its weights as 8-bit integers.

    What is not quantised shares its memory with `model`; moving one of them to another device or dtype does
    not move the other. The answer runs wherever `model` does (outside our engine with the eager experts
    forward, an expert dequantised at a time). It is for inference, and cannot be saved as a transformers
    checkpoint. Forward hooks of the model are called by the copy too. Do not call this while another thread
    runs `model`.

    Args:
        model: Any transformers model with float weights. Nothing about it changes, unless `in_place`.
        scheme: "int8": symmetric, one scale per output row.
        in_place: Convert `model` itself, layer by layer, and return it. Memory never rises above that of the
            model by more than a layer's weights. For a model that nobody else has.

    Returns:
        A model of the same class.

    Raises:
        ConfigurationError: The scheme is not "int8"; or the weights are quantised already, not loaded (meta
            device), or not finite.
    """
    check_quantization(scheme)
    check_quantizable(model)
    quantized = model if in_place else _sharing_copy(model)
    # The other implementations want the weights of all experts as one dense tensor.
    quantized.config._experts_implementation = "eager"
    _convert_linears(quantized)
    _convert_experts(quantized)
    return quantized


def check_quantizable(model: PreTrainedModel) -> None:
    """Refuse models whose weights are not plain floats. It is quick: no weight is read.

    Raises:
        ConfigurationError: The weights are quantised already, integers, or not loaded.
    """
    name = type(model).__name__
    ours = any(isinstance(module, Int8Linear | Int8ExpertWeight) for module in model.modules())
    if ours or getattr(model.config, "quantization_config", None) is not None:
        raise ConfigurationError(
            f"the weights of {name} are quantised already; use quantize=None, or load the model unquantised"
        )
    for path, weight in model.named_parameters():
        if not weight.is_floating_point() or weight.itemsize < 2 or weight.is_meta:
            found = "not loaded (meta device)" if weight.is_meta else f"{weight.dtype}"
            raise ConfigurationError(
                f"{path} of {name} is {found}, but int8 is made from float32, bfloat16 or float16; load the "
                "model whole, in one of these"
            )


def weight_bytes(model: nn.Module) -> int:
    """Return how much memory a model's weights take, tied ones counted once.

    Args:
        model: Quantised or not.

    Returns:
        Bytes of parameters and buffers.
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))


def _sharing_copy(model: Model) -> Model:
    """Copy the tree of modules and all settings, but no weight and no hook."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        # A parameter of its own over the same memory: moving the copy must not move the caller's.
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach()
    for module in model.modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            memo[id(hook)] = hook
    return copy.deepcopy(model, memo)


def _convert_linears(model: PreTrainedModel) -> None:
    kept = _kept_linears(model)
    # Weak, so that a layer's floats are gone before the next layer is made.
    made: WeakKeyDictionary[nn.Module, Int8Linear] = WeakKeyDictionary()
    for path, parent, name, child in _places(model):
        if type(child) is not nn.Linear or child in kept:
            continue
        if child not in made:
            made[child] = Int8Linear(child)
            _require_finite(path, made[child].scale_O)
        setattr(parent, name, made[child])


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """Go through the tree: path, parent, name and module; a shared module at each of its places."""
    parents = [(path, module) for path, module in model.named_modules() if module._modules]
    for path, parent in parents:
        for name in list(parent._modules):
            child = parent._modules[name]
            if child is not None:
                yield f"{path}.{name}", parent, name, child


def _kept_linears(model: PreTrainedModel) -> set[nn.Module]:
    """Find the linear layers that stay: by their path, as output head, or because their weights are tied."""
    owners = Counter(id(weight) for module in model.modules() for weight in module._parameters.values())
    head = model.get_output_embeddings()
    return {
        child
        for path, _, _, child in _places(model)
        if type(child) is nn.Linear and (child is head or _KEPT.search(path) or owners[id(child.weight)] > 1)
    }


def _convert_experts(model: nn.Module) -> None:
    for path, module in model.named_modules():
        # What transformers' decorator gives every experts class that takes its interface.
        if not hasattr(module, "_is_expert_parallel"):
            continue
        for name in _EXPERT_WEIGHTS:
            weight = getattr(module, name, None)
            if isinstance(weight, Tensor) and weight.dim() == 3:
                converted = Int8ExpertWeight(weight, transposed=bool(module.is_transposed))
                _require_finite(f"{path}.{name}", converted.scale_EO)
                delattr(module, name)
                setattr(module, name, converted)


def _require_finite(path: str, scales: Tensor) -> None:
    if not bool(torch.isfinite(scales).all()):
        raise ConfigurationError(
            f"the weights of {path.lstrip('.')} are not all finite, so they have no 8-bit form; download the "
            "model again"
        )
