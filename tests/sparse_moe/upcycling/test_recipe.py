"""What `upcycle` is told is checked before anything is read or written."""

from __future__ import annotations

from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.recipe import UpcyclingRecipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": 1}, "experts=1 makes no mixture; it must be at least 2"),
        ({"experts": 2.5}, "experts=2.5 is not valid"),
        ({"top_k": 5}, "top_k=5 is more than experts=4"),
        ({"top_k": 0}, "top_k=0 is not valid"),
        ({"noise": -0.1}, "noise=-0.1 is not valid; it must be 0 or a finite number above it"),
        ({"noise": float("nan")}, "noise=nan is not valid"),
        ({"noise": float("inf")}, "noise=inf is not valid"),
        ({"noise": True}, "noise=True is not valid"),
        ({"reinitialize": 1.01}, "reinitialize=1.01 is not valid; it must be a share between 0 and 1"),
        ({"reinitialize": -0.5}, "reinitialize=-0.5 is not valid"),
        ({"reinitialize": "half"}, "reinitialize='half' is not valid"),
        ({"router": "best"}, "router='best' is not valid; it must be 'random' or 'kmeans'"),
        ({"seed": -1}, "seed=-1 is not valid"),
        ({"seed": 1.5}, "seed=1.5 is not valid"),
        ({"seed": 2**63}, "is not valid; it must be a whole number from 0"),
        ({"prompts": ["one"]}, "prompts are given, but router='random' does not read any"),
        ({"router": "kmeans", "prompts": []}, "prompts is empty"),
        ({"router": "kmeans", "prompts": "one"}, "prompts is not valid; it must be a list of texts"),
        ({"router": "kmeans", "prompts": ["one", " "]}, "none of them empty"),
        ({"router": "kmeans", "prompts": [1]}, "prompts is not valid"),
        ({"router": "kmeans", "prompts": 7}, "prompts is not valid"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        UpcyclingRecipe(**options)


def test_whole_numbers_and_ends_of_ranges_are_fine() -> None:
    assert UpcyclingRecipe(noise=0, reinitialize=1, seed=2**63 - 1).reinitialize == 1
    assert UpcyclingRecipe(experts=2, top_k=2, router="kmeans", prompts=("a",)).prompts == ("a",)


def test_it_knows_whether_experts_start_apart() -> None:
    assert UpcyclingRecipe(router="kmeans").experts_are_copies
    assert not UpcyclingRecipe(noise=0.1).experts_are_copies
    assert not UpcyclingRecipe(reinitialize=0.1).experts_are_copies
