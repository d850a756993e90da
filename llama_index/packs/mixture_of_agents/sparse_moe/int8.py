"""Weights kept as 8-bit integers, one scale per output row, and the modules that multiply by them.

A row of weights becomes whole numbers in [-127, 127] times the row's scale; what was x * W becomes
(x * Q) * scale, computed in the dtype of the activations. Only memory is won: each product converts the
integers first, by plain torch operations that exist everywhere. (torch's own int8 product is private,
crashes on rows of odd lengths, and is slower in float32.) It does not know which parts of a model it holds.

Shapes: N rows of activations, E experts, O outputs, I inputs of a product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LARGEST = 127


def quantize_rows(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix to 8-bit integers, symmetrically, with one scale per row.

    Args:
        weight_OI: Finite floats (O, I).

    Returns:
        Integers (O, I), and float32 scales (O,), above 0 for rows of zeros too. A weight and integer * scale
        differ by at most half a scale. Scales are not finite where weights are not.
    """
    exact_OI = weight_OI.detach().float()
    largest_O = exact_OI.abs().amax(dim=1)
    # Scales below the smallest normal number are too coarse themselves.
    scale_O = (largest_O / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
    rows_OI = (exact_OI / scale_O[:, None]).round_().clamp_(-LARGEST, LARGEST)
    return rows_OI.to(torch.int8), scale_O


def dequantize_rows(rows_OI: Tensor, scale_O: Tensor, dtype: torch.dtype) -> Tensor:
    """Return integers * scales as floats of a dtype; leading dimensions pass through."""
    return (rows_OI.to(scale_O.dtype) * scale_O[..., None]).to(dtype)


def int8_linear(input_NI: Tensor, rows_OI: Tensor, scale_O: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Multiply by quantised weights.

    Args:
        input_NI: Activations; leading dimensions pass through.
        rows_OI: Integers.
        scale_O: Scale of each row.
        bias_O: Added to the result.

    Returns:
        (N, O), in the dtype of the activations.
    """
    dtype = input_NI.dtype
    if dtype == torch.float16:
        # Sums of unscaled integers may lie above 65504, the end of its range.
        return functional.linear(input_NI, dequantize_rows(rows_OI, scale_O, dtype), bias_O)
    output_NO = functional.linear(input_NI, rows_OI.to(dtype)).mul_(scale_O)
    return output_NO if bias_O is None else output_NO.add_(bias_O)


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights, in place of the one it is made from.

    Bias and hooks are that layer's own.

    Args:
        linear: A layer with float weights; it is not changed.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.rows_OI: Tensor
        self.scale_O: Tensor
        self.like: Tensor
        self.bias: nn.Parameter | None
        self.in_features, self.out_features = linear.in_features, linear.out_features
        rows_OI, scale_O = quantize_rows(linear.weight)
        self.register_buffer("rows_OI", rows_OI)
        self.register_buffer("scale_O", scale_O)
        # Follows the model through .to(dtype), so that it tells the dtype of the weights.
        self.register_buffer("like", linear.weight.new_empty(0), persistent=False)
        self.register_parameter("bias", linear.bias)
        self.train(linear.training)
        vars(self).update({name: value for name, value in vars(linear).items() if "_hooks" in name})

    @property
    def weight(self) -> Tensor:
        """The dequantised weights (O, I), made anew each time: a few architectures read them."""
        return dequantize_rows(self.rows_OI, self.scale_O, self.like.dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Multiply, as `nn.Linear` does."""
        return int8_linear(input, self.rows_OI, self.scale_O, self.bias)

    def extra_repr(self) -> str:
        """What `print(model)` says of it."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Int8ExpertWeight(nn.Module):
    """One of the two weights that an experts module stacks, with 8 bits.

    It stands where the 3D parameter stood. Indexed by experts, as every architecture's eager forward does, it
    gives their dequantised weights, so that the module works outside our engine too.

    Args:
        weight: (E, O, I), or (E, I, O) where transposed.
        transposed: Whether output rows come last.
    """

    def __init__(self, weight: Tensor, *, transposed: bool) -> None:
        super().__init__()
        self.rows_EOI: Tensor
        self.scale_EO: Tensor
        self.like: Tensor
        self.transposed = transposed
        weight_EOI = weight.detach().mT if transposed else weight.detach()
        experts, outputs, inputs = weight_EOI.shape
        rows_EOI = torch.empty((experts, outputs, inputs), dtype=torch.int8, device=weight.device)
        scale_EO = torch.empty((experts, outputs), dtype=torch.float32, device=weight.device)
        # One after another: all at once would need the whole stack several times over.
        for expert in range(experts):
            rows_EOI[expert], scale_EO[expert] = quantize_rows(weight_EOI[expert])
        self.register_buffer("rows_EOI", rows_EOI)
        self.register_buffer("scale_EO", scale_EO)
        self.register_buffer("like", weight.new_empty(0), persistent=False)

    @property
    def shape(self) -> torch.Size:
        """That of the stacked weight it replaces."""
        experts, outputs, inputs = self.rows_EOI.shape
        return torch.Size((experts, inputs, outputs) if self.transposed else (experts, outputs, inputs))

    def __getitem__(self, experts: int | Tensor) -> Tensor:
        """Return dequantised weights in the layout they had: of one expert, or a stack for several."""
        weight = dequantize_rows(self.rows_EOI[experts], self.scale_EO[experts], self.like.dtype)
        return weight.mT if self.transposed else weight
