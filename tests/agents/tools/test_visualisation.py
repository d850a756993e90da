"""Charts: a specification that says what was asked, a picture that is one, and no file without a yes."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.tools import FunctionTool

from llama_index.packs.mixture_of_agents.agents.tools.charts import Chart, drawable, vega_lite
from llama_index.packs.mixture_of_agents.agents.tools.consent import Confirm
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.agents.tools.picture import png
from llama_index.packs.mixture_of_agents.agents.tools.visualisation import ChartTools
from llama_index.packs.mixture_of_agents.errors import MissingExtraError, ToolError

pytest.importorskip("polars")
pytest.importorskip("matplotlib")

PNG = b"\x89PNG\r\n\x1a\n"
ROWS = [{"day": "2026-01-01", "price": 3, "kind": "a"}, {"day": "2026-01-02", "price": 4.5, "kind": "b"}]


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    (tmp_path / "sales.csv").write_text("region,amount\nnorth,3\nsouth,4.5\nsouth,1\n")
    return DataFolder(tmp_path)


def _tools(folder: DataFolder, confirm: Confirm | None = None) -> dict[str, FunctionTool]:
    return {str(tool.metadata.name): tool for tool in ChartTools(folder, confirm=confirm).tools()}


def test_a_chart_of_given_rows_is_vega_lite(folder: DataFolder) -> None:
    chart = {"kind": "line", "x": "day", "y": "price", "colour": "kind", "title": "Prices", "rows": ROWS}
    made = json.loads(_tools(folder)["make_chart"](chart=chart).content)
    assert made["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    assert made["data"] == {"values": ROWS}
    assert made["mark"]["type"] == "line"
    assert {channel: value["type"] for channel, value in made["encoding"].items()} == {
        "x": "temporal",
        "y": "quantitative",
        "color": "nominal",
    }


def test_a_chart_of_a_file_is_grouped(folder: DataFolder) -> None:
    measure = {"how": "sum", "column": "amount"}
    where = [{"column": "amount", "comparison": "more", "value": 1}]
    chart = {"kind": "bar", "x": "region", "file": "sales.csv", "measure": measure, "where": where}
    made = json.loads(_tools(folder)["make_chart"](chart=chart).content)
    assert made["data"]["values"] == [
        {"region": "north", "sum of amount": 3.0},
        {"region": "south", "sum of amount": 4.5},
    ]


@pytest.mark.parametrize(
    ("chart", "said"),
    [
        ({"kind": "bar", "x": "a", "y": "b"}, "either `file` or `rows`"),
        ({"kind": "bar", "x": "a", "y": "b", "rows": ROWS, "file": "sales.csv"}, "either `file` or `rows`"),
        ({"kind": "bar", "x": "a", "y": "b", "rows": []}, "1 to 5000 rows"),
        ({"kind": "bar", "x": "a", "y": "b", "rows": [{"a": 1, "b": 1}] * 5001}, "Group them first"),
        ({"kind": "bar", "x": "nope", "y": "price", "rows": ROWS}, "no row has nope"),
        ({"kind": "bar", "x": "day", "y": "kind", "rows": ROWS}, "column of numbers"),
        ({"kind": "pie", "x": "day", "y": "price", "rows": ROWS}, "Input should be"),
        (
            {"kind": "bar", "x": "day", "y": "price", "rows": ROWS, "measure": {"how": "count"}},
            "for a `file`",
        ),
        ({"kind": "bar", "x": "region", "y": "nope", "file": "sales.csv"}, "there is no column"),
        ({"kind": "bar", "x": "region", "y": "amount", "file": "/etc/passwd"}, "outside"),
    ],
)
def test_what_cannot_be_drawn_is_refused(folder: DataFolder, chart: dict[str, Any], said: str) -> None:
    with pytest.raises(ToolError, match=said):
        _tools(folder)["make_chart"](chart=chart)


@pytest.mark.parametrize("ending", ["png", "json"])
async def test_a_chart_is_saved_after_a_yes(folder: DataFolder, ending: str) -> None:
    save = _tools(folder, lambda _: True)["save_chart"]
    chart = {"kind": "bar", "x": "region", "file": "sales.csv", "measure": {"how": "count"}}
    await save.acall(chart=chart, save_as=f"charts/sales.{ending}")
    content = (folder.path / "charts" / f"sales.{ending}").read_bytes()
    assert content.startswith(PNG) if ending == "png" else json.loads(content)["mark"]["type"] == "bar"


@pytest.mark.parametrize("confirm", [None, lambda _: False])
async def test_nothing_is_saved_without_a_yes(folder: DataFolder, confirm: Confirm | None) -> None:
    chart = {"kind": "bar", "x": "day", "y": "price", "rows": ROWS}
    with pytest.raises(ToolError, match="not done: saving a bar chart"):
        await _tools(folder, confirm)["save_chart"].acall(chart=chart, save_as="a.png")
    assert folder.files() == ["sales.csv"]


@pytest.mark.parametrize("name", ["../a.png", "a.svg", "/tmp/a.png", "sales.csv"])
async def test_a_place_that_is_refused_is_not_asked_about(folder: DataFolder, name: str) -> None:
    def confirm(description: str) -> bool:
        raise AssertionError(description)

    with pytest.raises(ToolError):
        await _tools(folder, confirm)["save_chart"].acall(
            chart={"kind": "bar", "x": "day", "y": "price", "rows": ROWS}, save_as=name
        )


CELLS = st.none() | st.integers(-99, 99) | st.floats() | st.text(max_size=5) | st.sampled_from(["2026-01-01"])
TEXTS = st.text(max_size=8) | st.sampled_from(["$x$", "_a", "a.b[0]", "\\frac"])


@settings(max_examples=40)
@given(
    kind=st.sampled_from(["bar", "line", "area", "point"]),
    x=TEXTS,
    colour=TEXTS,
    title=TEXTS,
    cells=st.lists(
        st.tuples(CELLS, st.integers(-9, 9), st.sampled_from(["$a", "b"])), min_size=1, max_size=6
    ),
)
def test_any_columns_and_values_make_json_and_are_drawn_or_refused(
    kind: Any, x: str, colour: str, title: str, cells: list[tuple[Any, int, str]]
) -> None:
    rows = [{"number": up, colour: series, x: along} for along, up, series in cells]
    try:
        chart = drawable(Chart(kind=kind, x=x, y="number", colour=colour, title=title, rows=rows))
    except ToolError:
        return
    json.dumps(vega_lite(chart), allow_nan=False)


@pytest.mark.parametrize("kind", ["bar", "line", "area", "point"])
@pytest.mark.parametrize(
    "along",
    [
        *([1, 2, None], ["$a", "b_$x^2$", "_c"], ["2026-01-01", "2026-01-02T10:00:00Z", "2026-01-03"]),
        [str(n) for n in range(50)],
        [datetime.date(2026, 1, 1), True, 3.5],
    ],
    ids=["numbers", "formulas", "times", "many", "mixed"],
)
def test_every_kind_of_axis_is_drawn(kind: Any, along: list[Any]) -> None:
    rows = [{"x$_": x, "y": n, "s": f"_${n % 2}"} for n, x in enumerate(along)]
    chart = drawable(Chart(kind=kind, x="x$_", y="y", colour="s", title="$\\frac{1}", rows=rows))
    assert png(chart, width=2, height=2).startswith(PNG)


def test_names_with_dots_are_one_field() -> None:
    chart = drawable(Chart(kind="bar", x="a.b[0]", y="y", rows=[{"a.b[0]": "p", "y": 1}]))
    assert vega_lite(chart)["encoding"]["x"]["field"] == r"a\.b\[0\]"


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match=r"\[plots\]"):
        png(drawable(Chart(kind="bar", x="x", y="y", rows=[{"x": 1, "y": 1}])))


def test_charts_may_be_saved_elsewhere_than_the_data_is(folder: DataFolder, tmp_path: Path) -> None:
    out = tmp_path / "charts"
    out.mkdir()
    held = ChartTools(folder, confirm=lambda what: True, out=DataFolder(out)).tools()
    save = next(tool for tool in held if tool.metadata.name == "save_chart")
    chart = {"kind": "bar", "x": "region", "y": "amount", "file": "sales.csv"}
    save(chart=chart, save_as="a.json")
    assert [path.name for path in out.iterdir()] == ["a.json"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["sales.csv"]


def test_more_series_than_anyone_can_tell_apart_are_refused() -> None:
    rows = [{"a": n, "b": n, "c": f"s{n}"} for n in range(60)]
    with pytest.raises(ToolError, match="makes 60 series; at most 50"):
        drawable(Chart(kind="line", x="a", y="b", colour="c", rows=rows))
