"""A heat map as a PNG or SVG, by matplotlib, which is imported on use.

The same map gives the same bytes. It draws on a canvas of its own, so a program that plots for itself
finds matplotlib as it left it. It knows nothing of models.
"""

from __future__ import annotations

import os
import textwrap
import warnings
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.app.heat_map import DROPPED, REROUTED, HeatMap, Measure, percent
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
_EDGE, _RIGHT, _TOP, _BOTTOM = 0.2, 1.05, 1.3, 0.6
"""Inches around the map, for title and scale; the rows' names take what they need."""
_LETTER = 0.075
_MEASURE, _BETWEEN = 1.0, 0.14
_NARROWEST, _SMALLEST, _LARGEST = 6.6, 2.0, 16.0
_MOST_NAMES = 64
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.linewidth": 0.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "heat map",
}
_INK, _BAR, _WARNING = "#333333", "#8a8fa3", "#c0504d"
_SIGNS = {DROPPED: "✗", REROUTED: "○"}


def check_image(path: Path) -> None:
    """Refuse a file that could not be written, before anything is computed for it.

    Raises:
        ConfigurationError: Another kind of file, no such folder, or no permission.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigurationError(
            f"{path} cannot be written: its name ends in {path.suffix!r}, and must end in "
            f"{' or '.join(SUFFIXES)}"
        )
    if path.is_dir() or not path.parent.is_dir():
        fault = "is a folder" if path.is_dir() else f"would be in {path.parent}, which does not exist"
        raise ConfigurationError(f"{path} cannot be written: it {fault}; name a file in a folder that exists")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigurationError(f"{path} cannot be written: permission denied; name another file")
    if find_spec("matplotlib") is None:
        raise MissingExtraError("Writing the heat map as an image", "plots")


def write_image(heat: HeatMap, path: Path) -> None:
    """Draw a map into a file; one that is there is overwritten.

    Raises:
        ConfigurationError: It cannot be written.
    """
    content = image_bytes(heat, path.suffix.lower().removeprefix("."))
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error}; name another file") from error


def image_bytes(heat: HeatMap, kind: str) -> bytes:
    """Draw a map.

    Args:
        heat: What to draw.
        kind: "png" or "svg".
    """
    # Not at the top: of an extra, and slow.
    import matplotlib

    file = BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A script that the font lacks is drawn as boxes; that is no reason to interrupt.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing", category=UserWarning)
        dated = {"Date": None} if kind == "svg" else None
        _figure(heat).savefig(file, format=kind, dpi=160, metadata=dated)
    return file.getvalue()


def _figure(heat: HeatMap) -> Figure:
    """Map on the left, its measures as bars on the right, everything placed in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cell = 0.42 if heat.experts <= 16 else 0.2
    beside = len(heat.measures) * (_MEASURE + _BETWEEN)
    left = _EDGE + 0.3 + _LETTER * max(map(len, heat.rows))
    map_width = min(max(heat.experts * cell, _SMALLEST, _NARROWEST - left - beside - _RIGHT), 12.0)
    map_height = min(max(len(heat.rows) * 0.17, _SMALLEST), _LARGEST)
    width, height = left + map_width + beside + _RIGHT, _TOP + map_height + _BOTTOM
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)

    def axes(left: float, wide: float) -> Axes:
        return figure.add_axes((left / width, _BOTTOM / height, wide / width, map_height / height))

    axis = axes(left, map_width)
    picture = _draw_map(axis, heat)
    for number, measure in enumerate(heat.measures):
        start = left + map_width + _BETWEEN + number * (_MEASURE + _BETWEEN)
        _draw_measure(axes(start, _MEASURE), measure, len(heat.rows))
    _draw_scale(figure, axes(width - _RIGHT + 0.15, 0.14), picture, heat)
    _draw_title(figure, heat, width, height)
    return figure


def _draw_map(axis: Axes, heat: HeatMap) -> Any:
    missing = float("nan")
    shares = [
        [missing if heat.is_sparse and share == 0 else share for share in row]
        + [missing] * (heat.experts - len(row))
        for row in heat.shares
    ]
    picture = axis.imshow(
        shares, cmap="viridis", vmin=0, vmax=heat.top, aspect="auto", interpolation="nearest"
    )
    axis.set_facecolor("#eeeeee")
    axis.set_xlabel("expert", color=_INK)
    axis.set_ylabel(heat.row_name, color=_INK)
    _name_ticks(axis, heat)
    for (row, expert), mark in heat.marks.items():
        colour = _INK if mark == DROPPED else "white"
        axis.text(expert, row, _SIGNS[mark], ha="center", va="center", color=colour, fontsize=7)
    return picture


def _name_ticks(axis: Axes, heat: HeatMap) -> None:
    across = 1 if heat.experts <= 16 else 4 if heat.experts <= 64 else 16
    axis.set_xticks(range(0, heat.experts, across))
    down = -(-len(heat.rows) // _MOST_NAMES)
    rows = range(0, len(heat.rows), down)
    axis.set_yticks(rows)
    size = 7 if len(heat.rows) > 16 else 8
    axis.set_yticklabels([heat.rows[row] for row in rows], fontsize=size, parse_math=False)
    axis.tick_params(length=2, width=0.6, colors=_INK)


def _draw_measure(axis: Axes, measure: Measure, rows: int) -> None:
    start = 0.0 if measure.is_share else 1.0
    values = [start if value is None else value for value in measure.values]
    colour = _WARNING if measure.name == "dropped" else _BAR
    axis.barh(range(rows), [value - start for value in values], left=start, height=0.72, color=colour)
    axis.set_ylim(rows - 0.5, -0.5)
    # Small differences stay small to look at.
    least = 1.0 if measure.name == "entropy" else 0.05 if measure.is_share else 1.5
    top = max(*values, least)
    axis.set_xlim(start, top)
    axis.set_xticks([start, top])
    names = [f"{start:.0f}", percent(top) if measure.is_share else f"{top:.1f}"]
    first, last = axis.set_xticklabels(names, fontsize=7)
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    axis.set_yticks([])
    axis.set_title(measure.name, fontsize=9, color=_INK, pad=4)
    axis.tick_params(length=2, width=0.6, colors=_INK)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _draw_scale(figure: Figure, axis: Axes, picture: Any, heat: HeatMap) -> None:
    bar = figure.colorbar(picture, cax=axis)
    ends = [0.0, heat.top] if heat.even is None else [0.0, heat.even, heat.top]
    bar.set_ticks(ends)
    bar.set_ticklabels([percent(end) + (" even" if end == heat.even else "") for end in ends])
    bar.ax.tick_params(length=2, width=0.6, labelsize=7, colors=_INK)
    bar.outline.set_linewidth(0.6)
    if heat.even is not None:
        bar.ax.axhline(heat.even, color="white", linewidth=1.2)


def _draw_title(figure: Figure, heat: HeatMap, width: float, height: float) -> None:
    signs = "".join(f"; {_SIGNS[mark]} {mark}" for mark in _SIGNS if mark in heat.marks.values())
    lines = [
        (heat.title, 11, "bold", "normal"),
        (f"“{heat.prompt}”", 9, "normal", "italic"),
        (heat.subtitle, 8, "normal", "normal"),
        (f"colour: {heat.meaning}{signs}", 8, "normal", "normal"),
    ]
    for number, (text, size, weight, slant) in enumerate(lines):
        figure.text(
            _EDGE / width,
            1 - (0.28 + 0.21 * number) / height,
            textwrap.shorten(text, int((width - 2 * _EDGE) * 72 / (size * 0.62)), placeholder="…"),
            fontsize=size,
            fontweight=weight,
            fontstyle=slant,
            color=_INK,
            parse_math=False,
        )
