"""Rounding to 8 bits stays within half a step, and products are those of the rounded weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llama_index.packs.mixture_of_agents.sparse_moe.int8 import (
    Int8ExpertWeight,
    Int8Linear,
    dequantize_rows,
    int8_linear,
    quantize_rows,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float16: 2**-9}


def matrix(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 40)),
    exponents=st.lists(st.integers(-44, 37), min_size=9, max_size=9),
    dtype=st.sampled_from([*DTYPES, torch.float64]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=150, deadline=None)
def test_a_weight_moves_by_half_a_step_at_most(
    shape: tuple[int, int], exponents: list[int], dtype: torch.dtype, seed: int
) -> None:
    """Whatever the sizes of the rows: from the smallest numbers there are to nearly the largest."""
    factors = torch.tensor([10.0**exponent for exponent in exponents[: shape[0]]], dtype=torch.float64)
    limit = torch.finfo(dtype).max if dtype != torch.float64 else 1e38
    weight = (matrix(*shape, seed).double() * factors[:, None]).clamp(-limit, limit).to(dtype)
    rows, scale = quantize_rows(weight)
    step = scale.double()[:, None]
    moved = (weight.double() - rows.double() * step).abs()
    assert rows.dtype == torch.int8
    # Float32 divides before it rounds, so a half is a half up to its last digits.
    assert bool((moved <= step * 0.5 * (1 + 1e-4)).all())
    assert rows.min() >= -127


def test_the_largest_of_a_row_is_127_steps() -> None:
    rows, scale = quantize_rows(torch.tensor([[0.5, -2.54, 1.27], [0.0, 0.1, 12.7]]))
    assert rows.tolist() == [[25, -127, 64], [0, 1, 127]]
    assert scale.tolist() == pytest.approx([0.02, 0.1])


def test_a_row_of_zeros_stays_one() -> None:
    rows, scale = quantize_rows(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    assert rows.tolist() == [[0, 0], [127, 0]]
    assert bool((scale > 0).all())
    assert int8_linear(torch.ones(3, 2), rows, scale).tolist() == [[0.0, 1.0]] * 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_scales_tell_of_weights_that_are_no_numbers(bad: float) -> None:
    scale = quantize_rows(torch.tensor([[1.0, 2.0], [1.0, bad]]))[1]
    assert torch.isfinite(scale).tolist() == [True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [0, 1, 4, 17])
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_product_is_that_of_the_rounded_weights(dtype: torch.dtype, tokens: int, with_bias: bool) -> None:
    weight, inputs = matrix(7, 33, 0).to(dtype), matrix(tokens, 33, 1).to(dtype)
    bias = matrix(1, 7, 2)[0].to(dtype) if with_bias else None
    rows, scale = quantize_rows(weight)
    output = int8_linear(inputs, rows, scale, bias)
    exact = inputs.double().numpy() @ (rows.double() * scale.double()[:, None]).numpy().T
    exact += bias.double().numpy() if bias is not None else 0.0
    assert output.dtype == dtype
    tolerance = ROUNDING[dtype] * 33**0.5
    np.testing.assert_allclose(output.double().numpy(), exact, rtol=tolerance, atol=8 * tolerance)


def test_half_precision_does_not_overflow_on_the_way() -> None:
    """Products of integers alone would sum to 127 * 64 * 64, far above 65504."""
    weight, inputs = torch.full((2, 64), 0.01, dtype=torch.float16), torch.full((1, 64), 64.0)
    output = int8_linear(inputs.half(), *quantize_rows(weight))
    assert output[0].tolist() == pytest.approx([40.96, 40.96], rel=1e-2)


def test_a_linear_layer_takes_any_leading_dimensions() -> None:
    linear = nn.Linear(12, 5)
    made = Int8Linear(linear)
    inputs = matrix(6, 12, 3).view(2, 3, 12)
    with torch.no_grad():
        expected = nn.functional.linear(inputs, made.weight, linear.bias)
        torch.testing.assert_close(made(inputs), expected)
    assert (made.in_features, made.out_features) == (12, 5)
    assert made.bias is linear.bias


def test_a_linear_layer_keeps_its_hooks_and_its_mode() -> None:
    linear, seen = nn.Linear(4, 4).eval(), []
    linear.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    made = Int8Linear(linear)
    made(torch.ones(2, 4))
    assert seen == [torch.Size((2, 4))]
    assert not made.training


def test_dequantised_weights_follow_the_dtype_of_the_model() -> None:
    made = Int8Linear(nn.Linear(4, 3, bias=False)).to(torch.bfloat16)
    assert made.weight.dtype == torch.bfloat16
    assert made.rows_OI.dtype == torch.int8
    assert made(torch.ones(1, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("transposed", [False, True])
def test_stacked_weights_are_read_expert_by_expert(transposed: bool) -> None:
    weight = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    made = Int8ExpertWeight(weight, transposed=transposed)
    assert made.shape == weight.shape
    for expert in range(3):
        matrix_OI = weight[expert].T if transposed else weight[expert]
        expected = dequantize_rows(*quantize_rows(matrix_OI), torch.float32)
        assert torch.equal(made[expert], expected.T if transposed else expected)
        assert torch.equal(made[torch.tensor(expert)], made[expert])
    assert torch.equal(made[torch.tensor([2, 0])], torch.stack([made[2], made[0]]))
