"""Bounds on what a threshold risks, held against known values and against many draws."""

from __future__ import annotations

import numpy as np
import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.risk import (
    ALWAYS,
    NEVER,
    NO_STOP,
    paired_interval,
    threshold_for_loss,
    threshold_for_share,
    upper_limit,
    wilson,
)
from llama_index.packs.mixture_of_agents.gate.targets import Target


@pytest.mark.parametrize(
    ("count", "total", "limit"), [(0, 100, 1 - 0.05**0.01), (100, 100, 1.0), (5, 50, 0.19883), (0, 0, 1.0)]
)
def test_the_upper_limit_is_clopper_and_pearsons(count: int, total: int, limit: float) -> None:
    assert upper_limit(count, total) == pytest.approx(limit, abs=1e-4)


def test_the_interval_is_wilsons() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


def drawn(draw: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two places to stop; the surer a score, the seldomer a loss."""
    scores = draw.random((count, 2))
    return scores, (draw.random((count, 2)) > scores**0.3).astype(float)


def lost(threshold: float, scores: np.ndarray, losses: np.ndarray) -> float:
    stops = scores >= threshold
    first = stops.argmax(axis=1)
    return float(np.where(stops.any(axis=1), losses[np.arange(len(first)), first], 0).mean())


@pytest.mark.parametrize("bound", [0.02, 0.05, 0.1])
def test_the_expected_loss_stays_under_the_bound(bound: float) -> None:
    draw = np.random.default_rng(0)
    fresh = drawn(draw, 20_000)
    found = [lost(threshold_for_loss(*drawn(draw, 150), bound), *fresh) for _ in range(60)]
    assert np.mean(found) <= bound + 0.002
    assert np.mean(found) > bound / 10, "a threshold that never stops keeps any bound, and is worth nothing"


def test_too_few_cases_for_a_bound_never_stop() -> None:
    scores = np.ones((50, 1))
    assert threshold_for_loss(scores, np.zeros((50, 1)), 0.01) == ALWAYS
    assert threshold_for_loss(scores, np.zeros((50, 1)), 0.02) == 1.0
    assert threshold_for_loss(np.zeros((0, 1)), np.zeros((0, 1)), 0.5) == ALWAYS


def test_the_share_that_never_stops_keeps_its_limit_on_new_cases() -> None:
    draw = np.random.default_rng(1)
    fresh = draw.random(20_000)
    found = [float((fresh < threshold_for_share(draw.random((200, 1)), 0.5)).mean()) for _ in range(60)]
    assert np.mean(np.array(found) > 0.5) <= 0.12
    assert np.mean(found) > 0.4


def test_a_share_too_low_for_the_data_to_assure_is_kept_by_going_on_never() -> None:
    scores = np.array([[0.2], [0.4], [0.9]])
    assert threshold_for_share(scores, 1.0) == 0.9
    assert threshold_for_share(scores, 0.01) == NEVER
    assert threshold_for_share(scores, 0.0) == NEVER


def test_who_can_stop_nowhere_counts_as_going_on() -> None:
    scores = np.array([[NO_STOP]] * 30 + [[0.5]] * 70)
    assert threshold_for_share(scores, 0.45) == 0.5
    assert threshold_for_share(scores, 0.3) == NEVER
    assert threshold_for_loss(scores, np.zeros((100, 1)), 0.1) == 0.5


def test_paired_differences_that_are_all_alike_have_no_width() -> None:
    assert paired_interval(np.full(20, 0.5)) == (0.5, 0.5)
    assert paired_interval(np.zeros(0)) == (0.0, 0.0)
    low, high = paired_interval(np.array([1.0, -1.0] * 50))
    assert low < 0 < high


@pytest.mark.parametrize(
    "given", [{}, {"bound": 0.1, "share": 0.5}, {"bound": -0.1}, {"share": float("nan")}]
)
def test_a_target_is_one_of_the_two(given: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        Target(**given)
