"""Heat maps made up for tests, the same each time."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from llama_index.packs.mixture_of_agents.app.heat_map import DROPPED, REROUTED, HeatMap, Measure


def layer_map(rows: int, experts: int, *, measures: bool = True) -> HeatMap:
    """Layers by experts; the second row's first expert is idle."""
    chance = Random(rows * 1000 + experts)
    weights = [[chance.uniform(0.1, 1) for _ in range(experts)] for _ in range(rows)]
    if experts > 1:
        weights[-1][0] = 0
    shares = tuple(tuple(weight / sum(row) for weight in row) for row in weights)
    dropped = Measure("dropped", tuple(chance.uniform(0, 0.2) for _ in range(rows)))
    entropy = Measure("entropy", (None, *(chance.uniform(0.5, 1) for _ in range(rows - 1))))
    uneven = Measure("max/mean", tuple(max(row) * experts for row in shares), is_share=False)
    return HeatMap(
        title=f"a model, {rows} MoE layers, {experts} experts, top 2",
        subtitle="no capacity limit",
        prompt="Why is the [bold]sky[/bold] blue? It costs $5, or $6.",
        row_name="layer",
        rows=tuple(map(str, range(rows))),
        shares=shares,
        meaning="share of a layer's assignments",
        even=1 / experts,
        measures=(dropped, entropy, uneven) if measures else (),
        marks={},
        summary="34 tokens",
    )


def token_map() -> HeatMap:
    """Three tokens by four experts, one assignment dropped, one rerouted."""
    return replace(
        layer_map(3, 4, measures=False),
        row_name="token",
        rows=("W$h$y", "·日本", "⏎"),
        shares=((0.5, 0.5, 0, 0), (0, 0, 1.0, 0), (0.25, 0, 0, 0.75)),
        even=None,
        marks={(1, 3): DROPPED, (2, 0): REROUTED},
        is_sparse=True,
    )
