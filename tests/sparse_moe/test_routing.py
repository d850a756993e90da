"""Settings are checked when they are made, and capacities are counted exactly."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings, capacity_of
from tests.sparse_moe import oracle


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"top_k": 0}, "top_k=0 is not valid; it must be a whole number of at least 1"),
        ({"top_k": 1.5}, "top_k=1.5 "),
        ({"top_k": True}, "top_k=True "),
        ({"capacity_factor": 0}, "capacity_factor=0 is not valid; it must be a number above 0, or None"),
        ({"capacity_factor": -1.0}, "capacity_factor=-1.0 "),
        ({"capacity_factor": float("nan")}, "capacity_factor=nan "),
        ({"capacity_factor": float("inf")}, "capacity_factor=inf "),
        ({"capacity_factor": "1.25"}, "capacity_factor='1.25' "),
        ({"capacity_factor": True}, "capacity_factor=True "),
        ({"min_capacity": 0}, "min_capacity=0 "),
        ({"capacity_block": 0}, "capacity_block=0 "),
        ({"overflow": "wait"}, "overflow='wait' is not valid; it must be one of 'drop', 'reroute'"),
        ({"overflow": ["drop"]}, "overflow=\\['drop'\\] "),
        ({"capacity_scope": "layer"}, "capacity_scope='layer' .* one of 'sequence', 'batch'"),
        ({"capacity_priority": "random"}, "capacity_priority='random' .* one of 'weight', 'position'"),
        ({"renormalize": 1}, "renormalize=1 .* one of False, True"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        RoutingSettings(**changes)


def test_the_defaults_change_nothing() -> None:
    assert not RoutingSettings().limited
    assert not RoutingSettings(overflow="reroute").reroutes
    assert RoutingSettings(capacity_factor=2).limited
    assert RoutingSettings(capacity_factor=2, overflow="reroute").reroutes


@pytest.mark.parametrize(
    ("factor", "tokens", "top_k", "experts", "capacity"),
    [
        (1.0, 8, 2, 4, 4),
        (1.0, 9, 2, 4, 5),
        # In floats these are 11.000000000000002 and 3.3000000000000003 * 10 = 33.00000000000001.
        (1.1, 20, 2, 4, 11),
        (1.1 * 3, 20, 2, 4, 33),
        (1 / 3, 12, 1, 4, 1),
        (0.01, 4, 1, 4, 1),
        (100.0, 4, 1, 4, 100),
    ],
)
def test_capacity_by_hand(factor: float, tokens: int, top_k: int, experts: int, capacity: int) -> None:
    assert capacity_of(tokens, top_k, experts, RoutingSettings(capacity_factor=factor)) == capacity


def test_a_capacity_is_never_below_the_least() -> None:
    assert capacity_of(4, 1, 4, RoutingSettings(capacity_factor=0.5, min_capacity=3)) == 3


def test_without_a_factor_a_capacity_cannot_bind() -> None:
    assert capacity_of(17, 2, 64, RoutingSettings(min_capacity=3)) == 17


@settings(max_examples=200)
@given(
    hundredths=st.integers(1, 400),
    tokens=st.integers(1, 512),
    top_k=st.integers(1, 8),
    experts=st.integers(1, 128),
)
def test_capacity_is_what_the_decimals_say(hundredths: int, tokens: int, top_k: int, experts: int) -> None:
    expected = oracle.capacity(tokens, top_k, experts, f"{hundredths / 100:.2f}")
    assert capacity_of(tokens, top_k, experts, RoutingSettings(capacity_factor=hundredths / 100)) == expected


def test_settings_are_there_without_torch() -> None:
    code = (
        "import sys; import llama_index.packs.mixture_of_agents.sparse_moe.routing; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
