"""Choosing a token is a pure function of logits, settings and the generator's state."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.requests import GenerationRequest, SamplingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving.sampling import (
    choose_token,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
)

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=30, unique=True).map(torch.tensor)


def _seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(LOGITS, st.integers(1, 30))
def test_top_k_is_transformers_top_k(logits_V: torch.Tensor, top_k: int) -> None:
    expected = TopKLogitsWarper(top_k)(torch.zeros(1, 1, dtype=torch.long), logits_V[None])[0]
    assert torch.equal(keep_top_k(logits_V, top_k), expected)


@given(LOGITS, st.floats(0.05, 0.95))
def test_top_p_is_transformers_top_p(logits_V: torch.Tensor, top_p: float) -> None:
    expected = TopPLogitsWarper(top_p)(torch.zeros(1, 1, dtype=torch.long), logits_V[None])[0]
    cumulative_V = logits_V.sort(descending=True).values.softmax(-1).cumsum(-1)
    # Both are right where the sum lands on the edge, give or take rounding.
    if float((cumulative_V - top_p).abs().min()) > 1e-5:
        assert torch.equal(keep_top_p(logits_V, top_p), expected)


@given(LOGITS, st.lists(st.integers(0, 60), max_size=8), st.floats(0.5, 2.0))
def test_repetition_penalty_is_transformers_penalty(
    logits_V: torch.Tensor, seen: list[int], penalty: float
) -> None:
    known = [index for index in seen if index < logits_V.numel()]
    process = RepetitionPenaltyLogitsProcessor(penalty)
    expected = process(torch.tensor([known], dtype=torch.long), logits_V[None])[0] if known else logits_V
    assert torch.allclose(penalise_repetition(logits_V, seen, penalty), expected)


@given(LOGITS, st.integers(0, 2**32))
def test_same_seed_same_token(logits_V: torch.Tensor, seed: int) -> None:
    settings = SamplingSettings(temperature=0.9, top_p=0.9, top_k=5)
    first = choose_token(logits_V, [], settings, _seeded(seed))
    assert choose_token(logits_V, [], settings, _seeded(seed)) == first


def test_greedy_takes_the_largest_and_draws_nothing() -> None:
    generator = _seeded()
    before = generator.get_state()
    assert choose_token(torch.tensor([0.0, 3.0, 1.0]), [], SamplingSettings(temperature=0), generator) == 1
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("temperature", [1e-30, 1e-9, 1e-3])
def test_a_tiny_temperature_is_as_good_as_greedy(temperature: float) -> None:
    logits_V = torch.tensor([1.0, 1000.0, 999.0])
    assert choose_token(logits_V, [], SamplingSettings(temperature=temperature), _seeded()) == 1


def test_samples_follow_the_probabilities() -> None:
    logits_V, generator = torch.tensor([0.0, math.log(3.0)]), _seeded()
    settings = SamplingSettings(temperature=1.0)
    ones = sum(choose_token(logits_V, [], settings, generator) for _ in range(2000))
    assert ones == pytest.approx(1500, abs=80)


def test_nan_is_an_error_not_an_answer() -> None:
    with pytest.raises(SparseMoEError, match="NaN"):
        choose_token(torch.tensor([0.0, math.nan]), [], SamplingSettings(), _seeded())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", True),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.5),
        ("top_k", 0),
        ("top_k", 2.0),
        ("repetition_penalty", 0),
        ("seed", 1.5),
        ("seed", 2**64),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any) -> None:
    shown = "top_k_sampling" if name == "top_k" else name
    with pytest.raises(ConfigurationError, match=f"{shown}=.* is not valid; it must be"):
        SamplingSettings(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_ids": ()}, "prompt is empty"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"batch_limit": True}, "batch_limit=True"),
    ],
)
def test_requests_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        GenerationRequest(**{"prompt_ids": (1,), "max_new_tokens": 1, **changes})
