"""Spreading temperatures: bounds are met and spaced evenly, lists cycle, anything else is refused."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.spreading import Spread, checked_temperatures, spread


@given(low=st.floats(0, 1), width=st.floats(0.01, 1), count=st.integers(2, 64))
def test_bounds_are_met_and_the_seats_between_are_evenly_apart(low: float, width: float, count: int) -> None:
    values = Spread(low, low + width).values(count)
    assert len(set(values)) == count
    assert values == sorted(values)
    assert math.isclose(values[0], low, abs_tol=1e-4)
    assert math.isclose(values[-1], low + width, abs_tol=1e-4)
    steps = [b - a for a, b in itertools.pairwise(values)]
    assert max(steps) - min(steps) < 3e-4
    assert all(0 <= value <= 2 for value in values)


def test_values_read_well() -> None:
    assert spread("0.2..1.0", 5) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert spread(Spread(0.3, 0.9), 3) == [0.3, 0.6, 0.9]
    assert str(Spread(0.3, 0.9)) == "0.3..0.9"
    assert checked_temperatures("0..2") == Spread(0, 2)


def test_a_single_seat_is_in_the_middle() -> None:
    assert spread("0.2..1.0", 1) == [0.6]


def test_a_list_is_gone_through_in_turn() -> None:
    assert spread([0.1, 0.7], 5) == [0.1, 0.7, 0.1, 0.7, 0.1]
    assert spread((0.1, 0.7), 1) == [0.1]


@pytest.mark.parametrize(
    "given_temperatures",
    [
        "",
        "0.2",
        "0.2-1.0",
        "a..b",
        "0.2..1.0..2",
        "1.0..0.2",
        "0.5..0.5",
        "-1..1",
        "0..3",
        "nan..1",
        "0..inf",
    ],
)
def test_bounds_that_are_none_are_refused(given_temperatures: str) -> None:
    with pytest.raises(ConfigurationError):
        checked_temperatures(given_temperatures)


@pytest.mark.parametrize("given_temperatures", [[], None, 0.7, [0.1, "0.2"], [True], [3], [math.nan], {0.1}])
def test_lists_that_are_none_are_refused(given_temperatures: Any) -> None:
    with pytest.raises(ConfigurationError):
        checked_temperatures(given_temperatures)
