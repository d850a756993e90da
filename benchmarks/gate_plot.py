"""Accuracy against calls to the dearest model, as an SVG: the Pareto plot of `benchmarks.gate_measures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "gate",
}
_APART = 0.7
"""Percentage points between names."""
_INK, _LINE, _RIVAL = "#333333", "#2a6f97", "#c0504d"


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the figures into an SVG; the same figures give the same bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 5.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        curve = sorted((r for r in rows if r["name"].startswith("cascade")), key=lambda r: r["dearest"])
        _points(axes, curve, _LINE, "o-", "cascade, by what it is to keep to")
        others = [r for r in rows if not r["name"].startswith("cascade")]
        _points(axes, others, _RIVAL, "s", None)
        for row, height in zip(others, apart([100 * row["accuracy"] for row in others], _APART), strict=True):
            _name(axes, row, height)
        axes.axvline(50, color=_INK, linewidth=0.6, linestyle=":")
        axes.set_xlabel("questions the dearest model is asked, %")
        axes.set_ylabel("answers right, %")
        axes.set_xlim(25, 125)
        axes.set_xticks(range(30, 101, 10))
        axes.legend(loc="lower right", frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _points(axes: Any, rows: Sequence[Mapping[str, Any]], color: str, style: str, label: str | None) -> None:
    high = [100 * row["accuracy"] for row in rows]
    around = [
        [100 * (row["accuracy"] - row["interval"][0]) for row in rows],
        [100 * (row["interval"][1] - row["accuracy"]) for row in rows],
    ]
    shares = [100 * row["dearest"] for row in rows]
    axes.errorbar(
        shares,
        high,
        yerr=around,
        fmt=style,
        color=color,
        markersize=4,
        linewidth=1,
        elinewidth=0.5,
        label=label,
    )


def _name(axes: Any, row: Mapping[str, Any], height: float) -> None:
    place = (100 * row["dearest"] + 1, height)
    axes.annotate(row["name"], place, verticalalignment="center", fontsize=7, color=_INK)


def apart(heights: Sequence[float], least: float) -> list[float]:
    """Heights for names that would cover each other: as they are, or moved up until they stand apart.

    Args:
        heights: Where the names belong.
        least: How far apart two of them have to be.
    """
    placed: dict[int, float] = {}
    for index in sorted(range(len(heights)), key=lambda index: heights[index]):
        below = max(placed.values(), default=heights[index] - least)
        placed[index] = max(heights[index], below + least)
    return [placed[index] for index in range(len(heights))]
