"""The two matrix products of one expert, whatever its weights are kept as.

An experts module of transformers stacks the weights of all its experts in 3D parameters: with or without
biases, output rows first or last (GPT-OSS); ours may be int8. Here they become two functions of an expert's
number and the tokens sent to it. It does not know which tokens go to which expert, what stands between the
two products (activation and gating belong to the module), nor how results are combined.

Shapes: N tokens sent to one expert, E experts, D model width, F expert width, O outputs of a product (of the
first: 2F for gated experts, F for others), I its inputs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.int8 import Int8ExpertWeight, int8_linear

Product = Callable[[int, Tensor], Tensor]


class ExpertWeights:
    """The products of an experts module's weights. Nothing is copied: it is made anew for each forward.

    Args:
        module: An experts module that takes transformers' experts interface.

    Attributes:
        project_in: `project_in(expert, tokens_ND)` gives (N, 2F), or (N, F) for experts without a gate.
        project_out: `project_out(expert, hidden_NF)` gives (N, D). Both add biases where there are any.
    """

    __slots__ = ("project_in", "project_out")

    def __init__(self, module: nn.Module) -> None:
        self.project_in: Product = _product(module, "gate_up_proj" if module.has_gate else "up_proj")
        self.project_out: Product = _product(module, "down_proj")


def expert_weights(module: nn.Module) -> ExpertWeights:
    """Return the two products of each expert of a module.

    Args:
        module: An experts module that takes transformers' experts interface, dense or quantised by
            `quantize_model`.

    Returns:
        The products. They hold the module's present weights: make new ones when these may have been replaced.

    Raises:
        ConfigurationError: The weights are neither one dense tensor nor int8 of ours.
    """
    return ExpertWeights(module)


def _product(module: nn.Module, name: str) -> Product:
    weight = getattr(module, name, None)
    bias_EO = getattr(module, f"{name}_bias") if module.has_bias else None
    if isinstance(weight, Int8ExpertWeight):
        return _int8(weight.rows_EOI, weight.scale_EO, bias_EO)
    if isinstance(weight, Tensor) and weight.dim() == 3:
        # Output rows first is what linear wants; the transposed view costs nothing.
        return _dense(weight.mT if module.is_transposed else weight, bias_EO)
    raise ConfigurationError(
        f"{type(module).__name__}.{name} is {type(weight).__name__}, but the weights of experts must be one "
        "3D tensor, or int8 made by quantize_model; load the model unquantised"
    )


def _dense(weight_EOI: Tensor, bias_EO: Tensor | None) -> Product:
    if bias_EO is None:
        return lambda expert, input_NI: functional.linear(input_NI, weight_EOI[expert])
    return lambda expert, input_NI: functional.linear(input_NI, weight_EOI[expert], bias_EO[expert])


def _int8(rows_EOI: Tensor, scale_EO: Tensor, bias_EO: Tensor | None) -> Product:
    if bias_EO is None:
        return lambda expert, input_NI: int8_linear(input_NI, rows_EOI[expert], scale_EO[expert])
    return lambda expert, input_NI: int8_linear(input_NI, rows_EOI[expert], scale_EO[expert], bias_EO[expert])
