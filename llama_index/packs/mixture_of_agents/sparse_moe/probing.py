"""Asking a router outside its model, with random hidden states, to see what it does.

Knows how routers of transformers are called and what they return; draws no conclusions.

Shapes: T tokens, K experts per token, E destinations that the router scores, D model width.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_TOKENS_PER_SCALE = 32
_SCALES = (0.3, 1.0, 3.0)
_TOLERANCE = 1e-4
# Routers that compute in half precision round to about three digits.
_HALF_TOLERANCE = 3e-2


@dataclass(frozen=True)
class RouterAnswer:
    """What a router returns: its scores of all destinations, and its choice with the weights.

    Args:
        logits_TE: Scores, in fp32.
        weights_TK: Combine weights.
        experts_TK: int64, the experts chosen.
    """

    logits_TE: Tensor
    weights_TK: Tensor
    experts_TK: Tensor

    @property
    def tolerance(self) -> float:
        """How far the router's own numbers may be from the same ones computed otherwise, as a share."""
        return _TOLERANCE if self.weights_TK.dtype == torch.float32 else _HALF_TOLERANCE

    @property
    def distinct(self) -> bool:
        """Whether every token's experts are different ones."""
        sorted_TK = self.experts_TK.sort(dim=1).values
        return bool((sorted_TK[:, 1:] != sorted_TK[:, :-1]).all())


def probe(router: nn.Module, width: int) -> Tensor:
    """Return random hidden states (T, D), small and large, always the same, in the router's dtype."""
    weight = next(parameter for parameter in router.parameters() if parameter.is_floating_point())
    scales_T = torch.tensor(_SCALES).repeat_interleave(_TOKENS_PER_SCALE)
    hidden_TD = torch.randn(len(scales_T), width, generator=torch.Generator().manual_seed(0))
    return (hidden_TD * scales_T.unsqueeze(1)).to(device=weight.device, dtype=weight.dtype)


def ask(router: nn.Module, block: nn.Module, hidden_TD: Tensor) -> RouterAnswer | str:
    """Ask a router.

    Args:
        router: Its `forward` is called, so no hook runs.
        block: The module that holds it; arguments besides hidden states are looked up there by name.
        hidden_TD: Hidden states.

    Returns:
        What it answers, or why it cannot be asked.
    """
    name = type(router).__name__
    try:
        extra = _other_arguments(router, block)
    except LookupError as missing:
        return f"{name} also needs {missing.args[0]}, which only a running model has"
    # Most routers take tokens only; some unpack (batch, sequence, D).
    for hidden in (hidden_TD, hidden_TD.unsqueeze(0)):
        try:
            with torch.no_grad():
                return _read(name, router.forward(hidden, **extra))
        except (IndexError, RuntimeError, ValueError) as error:
            problem = error
    return f"{name} could not be asked ({problem})"


def _read(name: str, output: object) -> RouterAnswer | str:
    if not isinstance(output, tuple) or len(output) < 3:
        return f"{name} does not return its scores, weights and experts"
    logits_TE, weights_TK, experts_TK = output[:3]
    return RouterAnswer(logits_TE.float(), weights_TK, experts_TK.long())


def _other_arguments(router: nn.Module, block: nn.Module) -> dict[str, Any]:
    _, *others = inspect.signature(router.forward).parameters.values()
    arguments = {}
    for parameter in others:
        required = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if hasattr(block, parameter.name):
            arguments[parameter.name] = getattr(block, parameter.name)
        elif required:
            raise LookupError(parameter.name)
    return arguments
