"""A chart as a PNG, drawn by matplotlib (the extra `plots`), which is imported when one is drawn.

No window, no global state of matplotlib's is touched, so charts may be drawn in several threads at once.
Files and models are not known here.
"""

from __future__ import annotations

import datetime
import importlib
import io
from typing import Any

from llama_index.packs.mixture_of_agents.agents.tools.charts import Chart, scale
from llama_index.packs.mixture_of_agents.errors import MissingExtraError

_MOST_TICKS = 30
_LONGEST_LABEL = 30


def png(chart: Chart, *, width: float = 8.0, height: float = 4.5) -> bytes:
    """Draw a chart that `drawable` gave.

    Args:
        chart: What to draw.
        width: In inches, at 100 dots each.
        height: In inches.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        raise MissingExtraError("a chart as PNG", "plots") from error
    figure = figures.Figure(figsize=(width, height), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, chart)
    axes.set(xlabel=_label(chart.x), ylabel=_label(chart.y), title=_label(chart.title, 100))
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def _draw(axes: Any, chart: Chart) -> None:
    kind = scale(chart.rows, chart.x)
    series = _series(chart)
    places = _places(chart) if kind == "nominal" else None
    for number, (name, rows) in enumerate(series.items()):
        if places is not None:
            along: list[Any] = [places[str(row[chart.x])] for row in rows]
        else:
            along = [_moment(row[chart.x]) if kind == "temporal" else row[chart.x] for row in rows]
        up = [row[chart.y] for row in rows]
        _mark(axes, chart.kind, along, up, _label(name), number, len(series) if places is not None else 1)
    if places is not None:
        _ticks(axes, list(places))
    if chart.colour:
        axes.legend(title=_label(chart.colour))


def _mark(
    axes: Any, kind: str, along: list[Any], up: list[Any], label: str, number: int, beside: int
) -> None:
    if kind == "bar":
        share = 0.8 / beside
        shift = (number - (beside - 1) / 2) * share if beside > 1 else 0
        axes.bar([place + shift for place in along] if shift else along, up, share, label=label)
    elif kind == "point":
        axes.scatter(along, up, label=label, s=16)
    else:
        ordered = sorted(zip(along, up, strict=True), key=lambda pair: pair[0])
        xs, ys = [x for x, _ in ordered], [y for _, y in ordered]
        axes.plot(xs, ys, label=label)
        if kind == "area":
            axes.fill_between(xs, ys, alpha=0.3)


def _series(chart: Chart) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in chart.rows:
        if row[chart.y] is not None and row[chart.x] is not None:
            found.setdefault(str(row[chart.colour]) if chart.colour else chart.y, []).append(row)
    return found


def _places(chart: Chart) -> dict[str, int]:
    names = dict.fromkeys(str(row[chart.x]) for row in chart.rows if row[chart.x] is not None)
    return {name: place for place, name in enumerate(names)}


def _ticks(axes: Any, names: list[str]) -> None:
    step = max(1, -(-len(names) // _MOST_TICKS))
    shown = range(0, len(names), step)
    turned = {"rotation": 45, "ha": "right"} if len(names) > 6 else {}
    axes.set_xticks(list(shown), [_label(names[place]) for place in shown], **turned)


def _moment(text: str) -> datetime.datetime:
    """Python 3.10 reads no "Z", and an axis takes no mixture of times with and without a zone."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00")[:32])
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)


def _label(text: str, longest: int = _LONGEST_LABEL) -> str:
    """A text as matplotlib shows any: a dollar sign would begin a formula, and a leading "_" hide it."""
    cut = text if len(text) <= longest else f"{text[: longest - 3]}..."
    plain = cut.replace("\\", "\\\\").replace("$", r"\$") if "$" in cut else cut
    return f"\u200b{plain}" if plain.startswith("_") else plain
