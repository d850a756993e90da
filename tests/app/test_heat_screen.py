"""Heat maps as text: every row and expert is there, within the width, with and without colour."""

from __future__ import annotations

import re
from io import StringIO
from typing import Literal

import pytest
from rich.cells import cell_len
from rich.console import Console

from llama_index.packs.mixture_of_agents.app.heat_map import HeatMap
from llama_index.packs.mixture_of_agents.app.heat_screen import heat_picture
from tests.app.sample_maps import layer_map, token_map


def drawn(
    heat: HeatMap, width: int, *, is_unicode: bool = True, colours: Literal["truecolor"] | None = None
) -> list[str]:
    out = StringIO()
    console = Console(file=out, width=width, color_system=colours, force_terminal=colours is not None)
    console.print(heat_picture(heat, width, is_unicode=is_unicode, has_colour=colours is not None))
    return out.getvalue().splitlines()


def rows_of(lines: list[str], heat: HeatMap) -> list[list[str]]:
    """What stands behind each row's name, band by band; the legend is none of it."""
    end = next(at for at, line in enumerate(lines) if line.startswith(heat.meaning[:20]))
    return [line.split()[1:] for line in lines[3:end] if line.split() and line.split()[0] in heat.rows]


@pytest.mark.parametrize("experts", [1, 2, 4, 8, 16, 60, 64, 128, 257])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_it_fits_and_nothing_is_left_out(experts: int, width: int) -> None:
    heat = layer_map(3, experts)
    lines = drawn(heat, width)
    assert max(map(cell_len, lines)) <= width
    for row in range(3):
        cells = [cell for band in rows_of(lines, heat)[row::3] for cell in band]
        bars = "".join(cell for cell in cells if not set(cell) - set("·▁▂▃▄▅▆▇█"))
        assert len(cells) == experts + 3 if not bars else len(bars) in (experts, experts * 2, experts * 3)
    for name in ("dropped", "entropy", "max/mean"):
        assert sum(line.split().count(name) for line in lines) == 1


def test_numbers_where_they_fit() -> None:
    heat = layer_map(2, 4)
    first, second = rows_of(drawn(heat, 80), heat)
    assert first[:4] == [f"{share:.1%}" for share in heat.shares[0]]
    assert second[0] == "0"
    assert first[5] == "-"
    first, _ = rows_of(drawn(layer_map(2, 10), 80), heat)
    assert first[:10] == [f"{share * 100:.0f}" for share in layer_map(2, 10).shares[0]]


def test_bars_grow_with_the_share() -> None:
    heat = layer_map(2, 40, measures=False)
    ((bars,), (others,)) = rows_of(drawn(heat, 60), heat)
    order = "·▁▂▃▄▅▆▇█"
    heights = [order.index(bar) for bar in bars]
    by_share = sorted(range(40), key=lambda expert: heat.shares[0][expert])
    assert [heights[expert] for expert in by_share] == sorted(heights)
    assert others[0] == "·"
    assert "·" not in bars


def test_where_there_is_only_ascii() -> None:
    for heat in (layer_map(3, 64), layer_map(3, 4)):
        "\n".join(drawn(heat, 80, is_unicode=False)).encode("ascii")


def test_colours_add_nothing_but_colour() -> None:
    heat = layer_map(3, 8)
    coloured = drawn(heat, 80, colours="truecolor")
    assert any("\x1b[" in line and "48;2" in line for line in coloured)
    stripped = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in coloured]
    assert rows_of(stripped, heat) == rows_of(drawn(heat, 80), heat)


def test_the_scale_says_what_is_even() -> None:
    assert "share of a layer's assignments; even is 25%" in drawn(layer_map(2, 4), 80)
    bars = next(line for line in drawn(layer_map(2, 64), 80) if line.startswith("share of"))
    assert re.search(r": 0 ▁+.*█+ [0-9.]+%; even is 1\.6%$", bars)


def test_markup_in_a_prompt_is_text() -> None:
    assert "Why is the [bold]sky[/bold] blue? It costs $5, or $6." in drawn(layer_map(2, 4), 80)


def test_tokens_with_what_was_dropped_and_rerouted() -> None:
    lines = drawn(token_map(), 80)
    assert lines[4].split() == ["token", "0", "1", "2", "3"]
    assert lines[5].split() == ["W$h$y", "50.0%", "50.0%", "·", "·"]
    assert lines[6].split() == ["·日本", "·", "·", "100.0%", "✗"]
    assert lines[7].split() == ["⏎", "↻25.0%", "·", "·", "75.0%"]
    assert lines[9].endswith("; ✗ dropped; ↻ rerouted to")
    assert len({cell_len(line.rstrip()) for line in lines[5:8]}) <= 3


def test_rows_of_different_width() -> None:
    heat = layer_map(2, 4, measures=False)
    ragged = HeatMap(**{**vars(heat), "shares": (heat.shares[0][:2], heat.shares[1]), "even": None})
    first, second = rows_of(drawn(ragged, 80), ragged)
    assert (len(first), len(second)) == (2, 4)
