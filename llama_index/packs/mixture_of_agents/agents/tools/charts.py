"""A chart as data: what is drawn against what, as a Vega-Lite specification with the rows inside.

Vega-Lite (https://vega.github.io/vega-lite/docs/spec.html) is JSON that any of its viewers draws. Pictures,
files and models are not known here.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from llama_index.packs.mixture_of_agents.errors import ToolError

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
MOST_ROWS = 5000
MOST_SERIES = 50
"""Beyond that nobody can tell them apart, and a legend of thousands takes minutes to lay out."""

Kind: TypeAlias = Literal["bar", "line", "area", "point"]
Scale: TypeAlias = Literal["quantitative", "temporal", "nominal"]
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")


class Chart(BaseModel):
    """What to draw.

    Attributes:
        kind: The mark.
        x: The column along.
        y: The column up; numbers.
        colour: A column that tells series apart.
        title: Above it.
        rows: The data, a dictionary per row.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    x: str
    y: str
    colour: str | None = None
    title: str = Field(default="", max_length=200)
    rows: list[dict[str, Any]]

    def columns(self) -> list[str]:
        """Those that are drawn, each once."""
        return list(dict.fromkeys([self.x, self.y, *([self.colour] if self.colour else [])]))


def drawable(chart: Chart) -> Chart:
    """The chart with nothing but its columns in its rows, in values JSON can hold.

    Raises:
        ToolError: There are no rows or too many, a column is in none of them, `y` holds no numbers, or there
            are too many series.
    """
    if not 0 < len(chart.rows) <= MOST_ROWS:
        raise ToolError(f"a chart takes 1 to {MOST_ROWS} rows; found {len(chart.rows)}. Group them first")
    names = chart.columns()
    known = {name for row in chart.rows for name in row}
    if unknown := [name for name in names if name not in known]:
        raise ToolError(f"no row has {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    rows = [{name: _plain(row.get(name)) for name in names} for row in chart.rows]
    if scale(rows, chart.y) != "quantitative":
        raise ToolError(f"`y` must be a column of numbers; {chart.y!r} is none")
    series = {str(row[chart.colour]) for row in rows} if chart.colour else set()
    if len(series) > MOST_SERIES:
        raise ToolError(f"{chart.colour!r} makes {len(series)} series; at most {MOST_SERIES} are drawn")
    return chart.model_copy(update={"rows": rows})


def vega_lite(chart: Chart) -> dict[str, Any]:
    """The specification of a chart that `drawable` gave.

    Args:
        chart: What to draw.
    """
    encoding = {"x": _channel(chart.rows, chart.x), "y": _channel(chart.rows, chart.y)}
    if chart.colour:
        encoding["color"] = _channel(chart.rows, chart.colour)
    return {
        "$schema": SCHEMA,
        **({"title": chart.title} if chart.title else {}),
        "data": {"values": chart.rows},
        "mark": {"type": chart.kind, "tooltip": True},
        "encoding": encoding,
    }


def scale(rows: Sequence[dict[str, Any]], column: str) -> Scale:
    """How the values of a column are laid out; a column of nothing but nulls is nominal."""
    values = [row[column] for row in rows if row[column] is not None]
    if values and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return "quantitative"
    if values and all(isinstance(value, str) and _DATE.fullmatch(value) for value in values):
        return "temporal"
    return "nominal"


def _channel(rows: Sequence[dict[str, Any]], column: str) -> dict[str, Any]:
    # In a field's name, a dot or a bracket would mean a part of an object.
    field = re.sub(r"([.\[\]\\'\"])", r"\\\1", column)
    return {"field": field, "type": scale(rows, column), "title": column}


def _plain(value: object) -> Any:
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
