"""Totals of routing: they add up in any order, say what raw promises, and survive JSON and pickle."""

from __future__ import annotations

import json
import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.recording import labels_of
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.stats import LayerLabel, LayerStats, RoutingStats
from tests.sparse_moe.routings import LIMITED, layers_of, plan_of, random_routing, recorded

LAYERS = layers_of(4, 7, 4)
ZERO = RoutingStats.zero(labels_of(LAYERS))


def some_stats(rows: int, seed: int, routing: RoutingSettings = LIMITED) -> RoutingStats:
    plan = plan_of([0] * rows, routing)
    routings = [random_routing(layer, plan, seed + layer.index) for layer in LAYERS]
    return recorded(LAYERS, plan, routings).collect(1)[0]


STATS = st.builds(
    some_stats, st.integers(0, 9), st.integers(0, 99), st.sampled_from([LIMITED, RoutingSettings()])
)


@settings(max_examples=30)
@given(STATS, STATS, STATS)
def test_adding_is_associative_and_commutative(a: RoutingStats, b: RoutingStats, c: RoutingStats) -> None:
    one, other = ((a + b) + c).to_dict(), (c + (a + b)).to_dict()
    assert _without_sums(one) == _without_sums((a + (b + c)).to_dict()) == _without_sums(other)
    for left, right in zip(one["layers"], other["layers"], strict=True):
        assert left["entropy"] == pytest.approx(right["entropy"])
    assert (a + ZERO).to_dict() == a.to_dict() == (ZERO + a).to_dict()


def _without_sums(totals: dict[str, object]) -> object:
    """Everything but the entropies: sums of floats depend on their order in the last bit."""
    layers = totals["layers"]
    assert isinstance(layers, list)
    return [{name: value for name, value in layer.items() if name != "entropy"} for layer in layers]


@settings(max_examples=20)
@given(STATS)
def test_what_raw_gets_survives_json_and_adds_up(stats: RoutingStats) -> None:
    totals = stats.to_dict()
    assert json.loads(json.dumps(totals, allow_nan=False)) == totals
    for layer in totals["layers"]:
        assert layer["kept"] == sum(layer["load"])
        assert layer["kept"] + layer["dropped"] == 2 * layer["tokens"]
        assert layer["rerouted"] <= layer["kept"]
    assert [len(layer["load"]) for layer in totals["layers"]] == [4, 7, 4]
    assert [layer["name"] for layer in totals["layers"]] == [layer.name for layer in LAYERS]


def test_nothing_yet() -> None:
    totals = ZERO.to_dict()
    assert json.loads(json.dumps(totals)) == totals
    assert (totals["tokens"], totals["dropped_share"], totals["rerouted_share"]) == (0, 0.0, 0.0)
    assert (totals["entropy"], totals["imbalance"], ZERO.most_uneven) == (None, None, None)
    assert totals["layers"][1] == {
        "layer": 1,
        "name": "model.layers.1.mlp",
        "capacity": None,
        "load": [0] * 7,
        "kept": 0,
        "dropped": 0,
        "rerouted": 0,
        "entropy": None,
        "tokens": 0,
    }


def test_no_layers_at_all() -> None:
    stats = RoutingStats.zero(())
    assert (stats + stats).to_dict()["layers"] == []
    assert stats.tokens == 0


def test_shares_are_of_all_assignments() -> None:
    stats = some_stats(9, 3)
    layers = stats.layers
    assignments = sum(layer.kept + layer.dropped for layer in layers)
    assert stats.dropped_share == sum(layer.dropped for layer in layers) / assignments > 0
    assert stats.rerouted_share == sum(layer.rerouted for layer in layers) / assignments > 0
    assert stats.tokens == 9


def one_layer(*load: int, entropy: float | None = None) -> LayerStats:
    label = LayerLabel(0, "mlp", len(load))
    return LayerStats(label, sum(load), tuple(load), dropped=0, rerouted=0, entropy=entropy, capacity=None)


def test_imbalance_goes_from_even_to_all_on_one() -> None:
    assert one_layer(3, 3, 3, 3).imbalance == 1
    assert one_layer(0, 12, 0, 0).imbalance == 4
    assert one_layer(0, 0).imbalance is None


def test_relative_entropy() -> None:
    assert one_layer(1, 1, entropy=math.log(2)).relative_entropy == 1
    assert one_layer(1, 1).relative_entropy is None
    assert one_layer(1, entropy=0.0).relative_entropy is None


def test_the_most_uneven_layer_and_the_mean() -> None:
    stats = some_stats(9, 5)
    imbalances = [layer.imbalance or 0 for layer in stats.layers]
    worst = stats.most_uneven
    assert worst is not None
    assert worst.imbalance == max(imbalances)
    assert stats.imbalance == pytest.approx(sum(imbalances) / 3)


def test_the_capacity_is_that_of_the_largest_group() -> None:
    small, large = some_stats(3, 0), some_stats(8, 0)
    assert [layer.capacity for layer in (small + large).layers] == [4, 3, 4]
    assert [layer.capacity for layer in some_stats(8, 0, RoutingSettings()).layers] == [None] * 3


def test_statistics_of_different_models_do_not_mix() -> None:
    with pytest.raises(SparseMoEError, match="3 layers and of 1 others cannot be added"):
        some_stats(1, 0) + RoutingStats.zero(labels_of(layers_of(4)))


def test_equal_models_mix_after_pickling() -> None:
    stats = some_stats(4, 1)
    assert (pickle.loads(pickle.dumps(stats)) + stats).tokens == 8
