"""A heat map as text: a line per row, a cell per expert, coloured where the terminal can.

Cells are numbers where they fit, else bars, and experts are folded into bands where even those do not.
A function of the map and of the terminal's width; it knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.text import Text

from llama_index.packs.mixture_of_agents.app.heat_map import DROPPED, HeatMap, Measure, percent

_WIDEST_CELL, _NARROWEST_NUMBER = 7, 4
_GAP = 2
_RULER = 8
"""Every so many bars have their expert's number above."""
_BARS = ("·▁▂▃▄▅▆▇█", ".:-=+*#%@")
"""Nothing at all, then eight steps of the scale; the second where there is only ASCII."""
_MARK = {True: ("✗", "x"), False: ("↻", "~")}

# From dark to light in even steps of brightness (the viridis colour map, CC0).
_COLOURS = (
    (68, 1, 84),
    (72, 40, 120),
    (62, 74, 137),
    (49, 104, 142),
    (38, 130, 142),
    (31, 158, 137),
    (53, 183, 121),
    (109, 205, 89),
    (180, 222, 44),
    (253, 231, 37),
)


@dataclass(frozen=True)
class _Layout:
    """How a map fits a terminal.

    Attributes:
        label: Width of the rows' names.
        cell: Width of a cell.
        band: Experts side by side.
        has_measures: Whether the measures fit beside the experts; else they stand below.
        is_unicode: Whether the terminal has more than ASCII.
        has_colour: Whether it has colours.
    """

    label: int
    cell: int
    band: int
    has_measures: bool
    is_unicode: bool
    has_colour: bool

    @property
    def has_numbers(self) -> bool:
        """Whether cells are wide enough for numbers."""
        return self.cell >= _NARROWEST_NUMBER


def heat_picture(
    heat: HeatMap, width: int, *, is_unicode: bool = True, has_colour: bool = True
) -> RenderableType:
    """Draw a map.

    Args:
        heat: What to draw.
        width: Columns to fit into.
        is_unicode: Whether the terminal has more than ASCII.
        has_colour: Whether it has colours; without them nothing is lost but the looks.
    """
    layout = _laid_out(heat, width, is_unicode, has_colour)
    lines = [
        Text(heat.title, style="bold"),
        Text(heat.subtitle, style="dim"),
        Text(heat.prompt, style="italic dim", no_wrap=True, overflow="ellipsis"),
    ]
    for first in range(0, heat.experts, layout.band):
        lines += [Text(), *_band(heat, layout, first, heat.measures if layout.has_measures else ())]
    if heat.measures and not layout.has_measures:
        lines += [Text(), *_band(heat, layout, heat.experts, heat.measures)]
    return Group(*lines, Text(), _legend(heat, layout), Text(heat.summary))


def _laid_out(heat: HeatMap, width: int, is_unicode: bool, has_colour: bool) -> _Layout:
    """The first that fits: numbers and measures, bars and measures, bars alone, bars in bands."""
    label = max(map(cell_len, (heat.row_name, *heat.rows)))
    whole = max(_RULER, width - label - 1)
    beside = whole - sum(_measure_width(one) for one in heat.measures)
    for room, narrowest in ((beside, _NARROWEST_NUMBER), (beside, 1), (whole, 1)):
        if heat.experts * narrowest <= room:
            widest = _WIDEST_CELL if narrowest > 1 else _NARROWEST_NUMBER - 1
            cell = min(widest, room // max(heat.experts, 1))
            return _Layout(label, cell, max(heat.experts, 1), room == beside, is_unicode, has_colour)
    return _Layout(label, 1, whole - whole % _RULER, False, is_unicode, has_colour)


def _band(heat: HeatMap, layout: _Layout, first: int, measures: tuple[Measure, ...]) -> Iterator[Text]:
    """All rows, with the experts from this one on and some measures."""
    last = min(first + layout.band, heat.experts)
    yield _header(heat, layout, first, last, measures)
    for number, name in enumerate(heat.rows):
        line = Text(no_wrap=True, overflow="crop")
        line.append(" " * (layout.label - cell_len(name)) + name + " ", style="dim")
        for expert in range(first, last):
            line.append_text(_cell(heat, layout, number, expert))
        for measure in measures:
            line.append(_measured(measure, number).rjust(_measure_width(measure)))
        yield line


def _header(heat: HeatMap, layout: _Layout, first: int, last: int, measures: tuple[Measure, ...]) -> Text:
    ruler = ""
    for expert in range(first, last, 1 if layout.has_numbers else _RULER):
        if layout.has_numbers:
            ruler += str(expert).rjust(layout.cell - 1) + " "
        else:
            wide = layout.cell * min(_RULER, last - expert)
            ruler += (str(expert) if len(str(expert)) <= wide else "").ljust(wide)
    beside = "".join(one.name.rjust(_measure_width(one)) for one in measures)
    line = f"{set_cell_size(heat.row_name, layout.label)} {ruler}{beside}".rstrip()
    return Text(line, style="bold", no_wrap=True)


def _cell(heat: HeatMap, layout: _Layout, row: int, expert: int) -> Text:
    shares = heat.shares[row]
    if expert >= len(shares):
        return Text(" " * layout.cell)
    share, mark = shares[expert], heat.marks.get((row, expert))
    sign = "" if mark is None else _MARK[mark == DROPPED][0 if layout.is_unicode else 1]
    if layout.has_numbers:
        nothing = _BARS[0 if layout.is_unicode else 1][0] if heat.is_sparse else "0"
        number = sign if mark == DROPPED else sign + (_number(share, layout.cell) if share else nothing)
        shown = (number.rjust(layout.cell - 1) + " ")[: layout.cell]
    else:
        shown = (sign or _bar(share / heat.top, layout.is_unicode)) * layout.cell
    return Text(shown, style=_style(share / heat.top, is_nothing=share == 0))


def _number(share: float, cell: int) -> str:
    return f"{share:.1%}" if cell == _WIDEST_CELL else f"{share * 100:.0f}"


def _bar(part: float, is_unicode: bool) -> str:
    bars = _BARS[0 if is_unicode else 1]
    steps = len(bars) - 1
    return bars[0] if part == 0 else bars[min(steps, 1 + int(part * steps))]


def _style(part: float, *, is_nothing: bool) -> str:
    if is_nothing:
        return "dim"
    red, green, blue = _COLOURS[min(len(_COLOURS) - 1, int(part * len(_COLOURS)))]
    ink = "rgb(0,0,0)" if 0.2 * red + 0.7 * green + 0.1 * blue > 110 else "rgb(255,255,255)"
    return f"{ink} on rgb({red},{green},{blue})"


def _legend(heat: HeatMap, layout: _Layout) -> Text:
    line = Text(heat.meaning)
    if layout.has_colour or not layout.has_numbers:
        line.append_text(_scale(layout)).append(percent(heat.top))
    if heat.even is not None:
        line.append(f"; even is {percent(heat.even)}")
    for is_dropped, words in ((True, "dropped"), (False, "rerouted to")):
        if any((mark == DROPPED) is is_dropped for mark in heat.marks.values()):
            line.append(f"; {_MARK[is_dropped][0 if layout.is_unicode else 1]} {words}")
    return line


def _scale(layout: _Layout) -> Text:
    scale = Text(": 0 ")
    for step in range(len(_COLOURS)):
        part = (step + 0.5) / len(_COLOURS)
        glyph = " " if layout.has_numbers else _bar(part, layout.is_unicode)
        scale.append(glyph * 2, style=_style(part, is_nothing=False))
    return scale.append(" ")


def _measure_width(measure: Measure) -> int:
    return max(len(measure.name), 6) + _GAP


def _measured(measure: Measure, row: int) -> str:
    value = measure.values[row]
    if value is None:
        return "-"
    return percent(value) if measure.is_share else f"{value:.2f}"
