"""How evenly experts are used, as a picture's content: rows, shares, what stands beside them, the words.

Pure: what was seen of a model's routing goes in, numbers and words come out. It knows neither terminals
nor images nor how a model is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.app.board import count, printable

if TYPE_CHECKING:
    from llama_index.packs.mixture_of_agents.sparse_moe.inspection import Inspection, LayerTrace
    from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
    from llama_index.packs.mixture_of_agents.sparse_moe.stats import LayerStats, RoutingStats

DROPPED, REROUTED = "dropped", "rerouted"
_LONGEST_TOKEN = 16


@dataclass(frozen=True)
class Measure:
    """One number per row that stands beside the map.

    Attributes:
        name: What it is.
        values: One per row; None where there is none.
        is_share: Whether 1 means all of something, or it is a plain ratio.
    """

    name: str
    values: tuple[float | None, ...]
    is_share: bool = True


@dataclass(frozen=True)
class HeatMap:
    """A map of rows by experts.

    Attributes:
        title: Which model.
        subtitle: Under which limits it ran.
        prompt: The beginning of what it read.
        row_name: What a row is: "layer" or "token".
        rows: Each row's name.
        shares: Each row's shares by expert, between 0 and 1. Rows may have different numbers of experts.
        meaning: What a share is a share of.
        even: The share that each expert has if all have the same; None where rows differ.
        measures: What stands beside the rows.
        marks: Row and expert of single assignments that were dropped or rerouted -> which of the two.
        summary: The whole in one line.
        is_sparse: Whether most shares are 0 and say only that an expert was not chosen.
    """

    title: str
    subtitle: str
    prompt: str
    row_name: str
    rows: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    meaning: str
    even: float | None
    measures: tuple[Measure, ...]
    marks: dict[tuple[int, int], str]
    summary: str
    is_sparse: bool = False

    @property
    def experts(self) -> int:
        """Experts of the widest row."""
        return max(map(len, self.shares), default=0)

    @property
    def top(self) -> float:
        """Where the scale ends: the largest share, and room enough above the even one to see unevenness."""
        largest = max((max(row, default=0.0) for row in self.shares), default=0.0)
        return min(1.0, max(largest, 2 * (self.even or 0.0))) or 1.0


def map_of_layers(seen: Inspection, settings: RoutingSettings) -> HeatMap:
    """Draw each layer's load by expert.

    Args:
        seen: One prompt's way through a model.
        settings: How it was routed.
    """
    layers = seen.stats.layers
    return HeatMap(
        title=title_of(seen),
        subtitle=limits_of(settings, seen),
        prompt=opening_of(seen),
        row_name="layer",
        rows=tuple(str(layer.label.index) for layer in layers),
        shares=tuple(tuple(load / max(layer.kept, 1) for load in layer.load) for layer in layers),
        meaning="share of a layer's assignments",
        even=_even([layer.label.experts for layer in layers]),
        measures=_layer_measures(layers, settings),
        marks={},
        summary=summary_of(seen.stats, settings),
    )


def map_of_tokens(seen: Inspection, settings: RoutingSettings, layer: int | None = None) -> HeatMap:
    """Draw which experts each token used in one layer.

    Args:
        seen: One prompt's way through a model.
        settings: How it was routed.
        layer: The layer's number; None for the most uneven one.
    """
    worst = seen.stats.most_uneven
    number = layer if layer is not None else worst.label.index if worst else 0
    trace = seen.layers[number]
    chosen = "" if layer is not None else "; the most uneven layer"
    return HeatMap(
        title=f"{title_of(seen)}: layer {number}",
        subtitle=limits_of(settings, seen) + chosen,
        prompt=opening_of(seen),
        row_name="token",
        rows=tuple(token_label(text) for text in seen.token_texts),
        shares=tuple(tuple(row) for row in trace.shares().tolist()),
        meaning="share of a token's output that an expert gives",
        even=None,
        measures=(),
        marks=_marks(trace),
        summary=layer_summary_of(seen.stats.layers[number], settings),
        is_sparse=True,
    )


def title_of(seen: Inspection) -> str:
    """Name the model and its shape."""
    labels = seen.stats.labels
    widths = sorted({label.experts for label in labels})
    experts = "-".join(str(width) for width in dict.fromkeys((widths[0], widths[-1]))) if widths else "0"
    top_k = seen.layers[0].experts_TK.shape[1] if seen.layers else 0
    return f"{printable(seen.model)}, {count(len(labels), 'MoE layer')}, {experts} experts, top {top_k}"


def limits_of(settings: RoutingSettings, seen: Inspection) -> str:
    """Say how much an expert may take, and what happens to the rest."""
    if not settings.limited:
        return "no capacity limit"
    capacities = sorted({layer.capacity for layer in seen.stats.layers if layer.capacity is not None})
    largest = "-".join(str(value) for value in dict.fromkeys((capacities[0], capacities[-1])))
    rest = "rerouted" if settings.reroutes else "dropped"
    return (
        f"capacity factor {settings.capacity_factor:g}, C = {largest} in a block of "
        f"{count(min(settings.capacity_block, seen.prompt_tokens), 'token')}, the rest {rest}"
    )


def opening_of(seen: Inspection, limit: int = 70) -> str:
    """The prompt's first words, on one line."""
    words = " ".join(printable(seen.prompt).split())
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"


def summary_of(stats: RoutingStats, settings: RoutingSettings) -> str:
    """The whole model in a line."""
    parts = [count(stats.tokens, "token"), *_lost(stats.dropped_share, stats.rerouted_share, settings)]
    if stats.entropy is not None:
        parts.append(f"router entropy {stats.entropy:.2f} nats{_of_largest(stats.layers)}")
    if stats.imbalance is not None:
        parts.append(f"imbalance {stats.imbalance:.2f} (1 is even)")
    if (worst := stats.most_uneven) is not None:
        parts.append(f"most uneven layer {worst.label.index}: {_busiest(worst)}")
    return " · ".join(parts)


def layer_summary_of(layer: LayerStats, settings: RoutingSettings) -> str:
    """One layer in a line."""
    assignments = max(layer.kept + layer.dropped, 1)
    lost = _lost(layer.dropped / assignments, layer.rerouted / assignments, settings)
    parts = [count(layer.tokens, "token"), *lost]
    if layer.entropy is not None:
        parts.append(f"router entropy {layer.entropy:.2f} nats{_of_largest([layer])}")
    return " · ".join([*parts, *([_busiest(layer)] if layer.kept else [])])


def token_label(text: str) -> str:
    """A token's text on one line, spaces and line breaks to be seen."""
    shown = printable(text.replace("\n", "⏎").replace("\t", "⇥")).replace(" ", "·") or "∅"
    return shown if len(shown) <= _LONGEST_TOKEN else shown[: _LONGEST_TOKEN - 1] + "…"


def percent(share: float) -> str:
    """A share in percent; what is more than nothing never reads as nothing."""
    if share < 0.001:
        return "<0.1%" if share > 0 else "0%"
    return f"{share:.1%}" if share < 0.2 else f"{share:.0%}"


def _lost(dropped: float, rerouted: float, settings: RoutingSettings) -> list[str]:
    if not settings.limited:
        return []
    reroutes = [f"{percent(rerouted)} rerouted"] if settings.reroutes else []
    return [f"{percent(dropped)} dropped", *reroutes]


def _busiest(layer: LayerStats) -> str:
    busiest = max(range(len(layer.load)), key=lambda expert: layer.load[expert])
    idle = layer.load.count(0)
    unused = f", {count(idle, 'expert')} idle" if idle else ""
    return f"expert {busiest} takes {percent(layer.load[busiest] / layer.kept)}{unused}"


def _of_largest(layers: Sequence[LayerStats]) -> str:
    shares = [layer.relative_entropy for layer in layers if layer.relative_entropy is not None]
    return f" ({percent(sum(shares) / len(shares))} of the largest possible)" if shares else ""


def _even(widths: Sequence[int]) -> float | None:
    return 1 / widths[0] if len(set(widths)) == 1 else None


def _layer_measures(layers: Sequence[LayerStats], settings: RoutingSettings) -> tuple[Measure, ...]:
    def values(of: Callable[[LayerStats], float | None]) -> tuple[float | None, ...]:
        return tuple(map(of, layers))

    dropped = Measure("dropped", values(lambda one: one.dropped / max(one.kept + one.dropped, 1)))
    rerouted = Measure("rerouted", values(lambda one: one.rerouted / max(one.kept + one.dropped, 1)))
    lost = [dropped, rerouted] if settings.reroutes else [dropped] if settings.limited else []
    entropy = Measure("entropy", values(lambda one: one.relative_entropy))
    return (*lost, entropy, Measure("max/mean", values(lambda one: one.imbalance), is_share=False))


def _marks(trace: LayerTrace) -> dict[tuple[int, int], str]:
    found = {}
    for token, experts in enumerate(trace.experts_TK.tolist()):
        for slot, expert in enumerate(experts):
            if not trace.kept_TK[token, slot]:
                found[token, expert] = DROPPED
            elif trace.rerouted_TK[token, slot]:
                found[token, expert] = REROUTED
    return found
