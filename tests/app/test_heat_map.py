"""What a heat map says, in numbers and words, of a model's routing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip("torch")

import numpy as np

from llama_index.packs.mixture_of_agents.app.heat_map import (
    DROPPED,
    REROUTED,
    map_of_layers,
    map_of_tokens,
    percent,
    token_label,
)
from llama_index.packs.mixture_of_agents.sparse_moe.inspection import Inspection, LayerTrace
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.stats import LayerLabel, RoutingStats

FREE = RoutingSettings()
DROPS = RoutingSettings(capacity_factor=1.0, capacity_block=64)
REROUTES = RoutingSettings(capacity_factor=1.25, overflow="reroute")


def seen(*widths: int, capacities: Sequence[int] = (0, 0)) -> Inspection:
    """Two tokens, the last of them generated; layer 1 drops one assignment and reroutes another."""
    labels = tuple(LayerLabel(index, f"layers.{index}", width) for index, width in enumerate(widths))
    chosen, kept = np.array([[0, 1], [2, 0]]), np.array([[True, True], [True, False]])
    every, none = np.ones((2, 2), bool), np.zeros((2, 2), bool)
    load = np.zeros((2, max(widths)), np.int64)
    load[:, :3] = [[2, 1, 1], [1, 1, 1]]
    stats = RoutingStats(
        labels,
        np.array([2, 2]),
        load,
        np.array([0, 1]),
        np.array([0, 1]),
        np.array([2 * np.log(widths[0]), np.log(widths[1])]),
        np.array([2, 2]),
        np.array(capacities),
    )
    traces = (
        LayerTrace(labels[0], chosen, every, none, np.full((2, 2), 0.5)),
        LayerTrace(labels[1], chosen, kept, np.array([[False, True], [False, False]]), kept * 0.5),
    )
    return Inspection("tiny", "Why is\nthe \x1bsky blue?", (5, 6), ("Wh", "y"), 1, stats, traces)


def test_layers_by_experts() -> None:
    heat = map_of_layers(seen(4, 4), FREE)
    assert heat.title == "tiny, 2 MoE layers, 4 experts, top 2"
    assert (heat.subtitle, heat.prompt) == ("no capacity limit", "Why is the sky blue?")
    assert (heat.row_name, heat.rows) == ("layer", ("0", "1"))
    assert (heat.even, heat.experts) == (0.25, 4)
    assert heat.shares == ((0.5, 0.25, 0.25, 0.0), (1 / 3, 1 / 3, 1 / 3, 0.0))
    assert heat.top == 0.5
    assert not heat.marks
    assert not heat.is_sparse
    entropy, uneven = heat.measures
    assert entropy.values == pytest.approx((1, 0.5))
    assert uneven.values == pytest.approx((2, 4 / 3))
    assert heat.summary == (
        "2 tokens · router entropy 1.04 nats (75% of the largest possible) · imbalance 1.67 (1 is even) · "
        "most uneven layer 0: expert 0 takes 50%, 1 expert idle"
    )


def test_what_a_limit_cost_stands_beside() -> None:
    heat = map_of_layers(seen(4, 4, capacities=(16, 16)), DROPS)
    assert [measure.name for measure in heat.measures] == ["dropped", "entropy", "max/mean"]
    assert heat.measures[0].values == (0.0, 0.25)
    assert heat.subtitle == "capacity factor 1, C = 16 in a block of 1 token, the rest dropped"
    assert "2 tokens · 12.5% dropped · router" in heat.summary


def test_and_what_was_rerouted() -> None:
    heat = map_of_layers(seen(4, 3, capacities=(20, 27)), REROUTES)
    assert [measure.name for measure in heat.measures][:2] == ["dropped", "rerouted"]
    assert heat.subtitle == "capacity factor 1.25, C = 20-27 in a block of 1 token, the rest rerouted"
    assert "12.5% dropped · 12.5% rerouted" in heat.summary


def test_layers_of_different_width() -> None:
    heat = map_of_layers(seen(3, 6), FREE)
    assert [len(row) for row in heat.shares] == [3, 6]
    assert heat.even is None
    assert heat.experts == 6
    assert "3-6 experts" in heat.title


def test_tokens_by_experts() -> None:
    heat = map_of_tokens(seen(4, 4, capacities=(1, 1)), REROUTES, layer=1)
    assert heat.title.endswith(": layer 1")
    assert (heat.row_name, heat.rows) == ("token", ("Wh", "y"))
    assert heat.shares == ((0.5, 0.5, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))
    assert heat.marks == {(0, 1): REROUTED, (1, 0): DROPPED}
    assert heat.even is None
    assert not heat.measures
    assert heat.is_sparse
    assert heat.summary.startswith("2 tokens · 25% dropped · 25% rerouted · router entropy 0.69 nats (50%")


def test_without_a_layer_the_most_uneven_is_taken() -> None:
    heat = map_of_tokens(seen(4, 4), FREE)
    assert heat.title.endswith(": layer 0")
    assert heat.subtitle == "no capacity limit; the most uneven layer"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" sky", "·sky"),
        ("\n\n", "⏎⏎"),
        ("\t", "⇥"),
        ("", "∅"),
        ("\x1b[2J", "[2J"),
        ("internationalisation", "internationalis…"),
    ],
)
def test_a_token_stays_on_its_line(text: str, label: str) -> None:
    assert token_label(text) == label


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0%"), (0.0004, "<0.1%"), (0.001, "0.1%"), (0.125, "12.5%"), (0.25, "25%"), (1, "100%")],
)
def test_percent(share: float, words: str) -> None:
    assert percent(share) == words
