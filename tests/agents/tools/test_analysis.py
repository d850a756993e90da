"""The analysis specialist's tools: right numbers from typed parameters, and refusals a model can act on."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.tools import FunctionTool

pl = pytest.importorskip("polars")

from llama_index.packs.mixture_of_agents.agents.tools.analysis import (  # noqa: E402
    AnalysisTools,
    grouped,
    joined,
)
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder  # noqa: E402
from llama_index.packs.mixture_of_agents.agents.tools.measures import Condition, Measure, met  # noqa: E402
from llama_index.packs.mixture_of_agents.errors import MissingExtraError, ToolError  # noqa: E402

SALES_FILE = {"file": "sales.csv"}
SALES = (
    "when,region,amount,sold\n"
    "2026-01-03,north,3,true\n2026-01-09,south,4.5,false\n2026-02-01,south,,true\n2026-02-02,,7,true\n"
)
TIMES = ("2026-01-03T10:05:00Z", "2026-01-03T10:55:00Z", "2026-01-04T00:00:00Z")
LOG = "".join(f'{{"t":"{time}","x":{x}}}\n' for time, x in zip(TIMES, (1, 2, 5), strict=True))


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, FunctionTool]:
    (tmp_path / "sales.csv").write_text(SALES)
    (tmp_path / "bosses.tsv").write_text("region\tboss\nnorth\tAnn\nsouth\tBob\nsouth\tBea\n")
    (tmp_path / "log.jsonl").write_text(LOG)
    (tmp_path / "broken.parquet").write_text("no parquet")
    pl.DataFrame({"a": [1, 2]}).write_parquet(tmp_path / "p.parquet")
    return {str(tool.metadata.name): tool for tool in AnalysisTools(DataFolder(tmp_path)).tools()}


def _rows(tools: dict[str, FunctionTool], tool: str, **arguments: Any) -> list[list[Any]]:
    rows: list[list[Any]] = tools[tool](**arguments).raw_output.rows
    return rows


def test_files_are_listed(tools: dict[str, FunctionTool]) -> None:
    listed = tools["list_files"]().content.splitlines()
    assert listed == ["bosses.tsv", "broken.parquet", "log.jsonl", "p.parquet", "sales.csv"]


def test_each_column_is_described(tools: dict[str, FunctionTool]) -> None:
    rows = {row[0]: row[1:] for row in _rows(tools, "describe", file="sales.csv")}
    assert rows["amount"][:6] == ["Float64", 4, 1, 4, "3.0", "7.0"]
    assert rows["amount"][6] == pytest.approx(14.5 / 3)
    assert rows["when"][:6] == ["Date", 4, 0, 4, "2026-01-03", "2026-02-02"]


@pytest.mark.parametrize(
    ("condition", "amounts"),
    [
        ({"column": "region", "value": "south"}, [4.5, None]),
        ({"column": "region", "comparison": "not equal", "value": "south"}, [3]),
        ({"column": "amount", "comparison": "more", "value": 3}, [4.5, 7]),
        ({"column": "amount", "comparison": "at most", "value": 4.5}, [3, 4.5]),
        ({"column": "amount", "comparison": "less", "value": 4.5}, [3]),
        ({"column": "when", "comparison": "at least", "value": "2026-02-01"}, [None, 7]),
        ({"column": "region", "comparison": "contains", "value": "o"}, [3, 4.5, None]),
        ({"column": "region", "comparison": "one of", "value": ["north", "west"]}, [3]),
        ({"column": "amount", "comparison": "one of", "value": [3, 7]}, [3, 7]),
        ({"column": "amount", "comparison": "null"}, [None]),
        ({"column": "region", "comparison": "not null"}, [3, 4.5, None]),
        ({"column": "sold", "value": True}, [3, None, 7]),
    ],
)
def test_rows_are_filtered(
    tools: dict[str, FunctionTool], condition: dict[str, Any], amounts: list[float | None]
) -> None:
    rows = _rows(tools, "filter_rows", file="sales.csv", where=[condition], columns=["amount"])
    assert [row[0] for row in rows] == amounts


def test_groups_are_measured(tools: dict[str, FunctionTool]) -> None:
    measures = [{"how": how, "column": "amount"} for how in ("sum", "count", "distinct", "least", "most")]
    rows = _rows(tools, "group", file="sales.csv", by=["region"], measures=[*measures, {"how": "count"}])
    assert rows == [
        *(["north", 3.0, 1, 1, 3.0, 3.0, 1], ["south", 4.5, 1, 2, 4.5, 4.5, 2]),
        [None, 7.0, 1, 1, 7.0, 7.0, 1],
    ]
    assert _rows(
        tools, "group", file="sales.csv", by=[], measures=[{"how": "median", "column": "amount"}]
    ) == [[4.5]]


def test_the_largest_and_the_smallest_are_ranked(tools: dict[str, FunctionTool]) -> None:
    assert [row[2] for row in _rows(tools, "top", file="sales.csv", column="amount", count=2)] == [7, 4.5]
    assert _rows(tools, "top", file="sales.csv", column="amount", smallest=True)[0][2] == 3


def test_tables_are_joined(tools: dict[str, FunctionTool]) -> None:
    files = {"left": "sales.csv", "right": "bosses.tsv", "on": ["region"]}
    inner = _rows(tools, "join", **files)
    assert [(row[1], row[4]) for row in inner] == [
        *(("north", "Ann"), ("south", "Bob"), ("south", "Bea"), ("south", "Bob"), ("south", "Bea")),
    ]
    assert len(_rows(tools, "join", how="left", **files)) == 6


def test_time_is_bucketed(tools: dict[str, FunctionTool]) -> None:
    total = [{"how": "sum", "column": "x"}]
    hours = _rows(tools, "time_buckets", file="log.jsonl", time_column="t", every="hour", measures=total)
    assert hours == [["2026-01-03 10:00:00", 3], ["2026-01-04 00:00:00", 5]]
    months = _rows(tools, "time_buckets", file="sales.csv", time_column="when", every="month")
    assert [row[1] for row in months] == [2, 2]


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("describe", {"file": "../sales.csv"}, "outside the data folder"),
        ("describe", {"file": "none.csv"}, "there is no file"),
        ("describe", {"file": "broken.parquet"}, "cannot be read"),
        ("group", {"file": "sales.csv", "by": ["nope"]}, "there are: when, region, amount, sold"),
        ("group", {**SALES_FILE, "by": [], "measures": [{"how": "eval", "column": "x"}]}, "Input should be"),
        ("group", {**SALES_FILE, "by": [], "measures": [{"how": "sum", "column": "region"}]}, "numbers"),
        ("group", {**SALES_FILE, "by": [], "measures": [{"how": "mean"}]}, "needs a column"),
        ("group", {**SALES_FILE, "by": [], "measures": [{"how": "count"}] * 2}, "each measure once"),
        ("top", {"file": "sales.csv", "column": "amount", "count": 0}, "greater than or equal to 1"),
        ("filter_rows", {**SALES_FILE, "where": [{"column": "amount", "value": "x"}]}, "cannot be compared"),
        ("filter_rows", {**SALES_FILE, "where": [{"column": "when", "value": "soon"}]}, "cannot be compared"),
        ("filter_rows", {**SALES_FILE, "where": [{"column": "amount"}]}, "needs one value"),
        ("filter_rows", {**SALES_FILE, "where": [{"column": "amount", "comparison": "one of"}]}, "a list"),
        ("filter_rows", {"file": "sales.csv", "sort_by": "__import__('os')"}, "there is no column"),
        ("join", {"left": "sales.csv", "right": "bosses.tsv", "on": []}, "at least one column"),
        ("join", {"left": "sales.csv", "right": "bosses.tsv", "on": ["when"]}, "there is no column"),
        ("time_buckets", {"file": "sales.csv", "time_column": "region", "every": "day"}, "no times"),
        ("time_buckets", {"file": "sales.csv", "time_column": "amount", "every": "day"}, "no times"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_in_words(
    tools: dict[str, FunctionTool], tool: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ToolError, match=said):
        tools[tool](**arguments)


def test_a_join_that_would_be_huge_is_refused_before_it_is_made() -> None:
    many = pl.DataFrame({"k": [1] * 3000})
    with pytest.raises(ToolError, match="9000000 rows"):
        joined(many, many, ["k"], "inner")


def test_tables_whose_keys_are_of_different_types_are_refused() -> None:
    with pytest.raises(ToolError, match="cannot be joined"):
        joined(pl.DataFrame({"k": [1]}), pl.DataFrame({"k": ["1"]}), ["k"], "inner")


VALUES = st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.none() | st.integers(-99, 99)), max_size=30)


@settings(max_examples=40)
@given(values=VALUES)
def test_groups_add_up_to_the_whole(values: list[tuple[str | None, int | None]]) -> None:
    frame = pl.DataFrame(values, schema={"key": pl.String, "number": pl.Int64}, orient="row")
    rows = grouped(frame, ["key"], [Measure(how="count"), Measure(how="sum", column="number")])
    assert rows["count"].sum() == len(values)
    assert rows["sum of number"].sum() == sum(number or 0 for _, number in values)


@settings(max_examples=40)
@given(values=VALUES, at=st.integers(-99, 99))
def test_a_condition_and_its_opposite_part_the_rows(
    values: list[tuple[str | None, int | None]], at: int
) -> None:
    frame = pl.DataFrame(values, schema={"key": pl.String, "number": pl.Int64}, orient="row")
    parts = [
        met(frame, [Condition(column="number", comparison="less", value=at)]).height,
        met(frame, [Condition(column="number", comparison="at least", value=at)]).height,
        met(frame, [Condition(column="number", comparison="null")]).height,
    ]
    assert sum(parts) == frame.height


def test_without_the_library_the_extra_is_named(
    tools: dict[str, FunctionTool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match=r"\[tables\]"):
        tools["describe"](file="sales.csv")


def test_what_is_small_on_disk_and_huge_in_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "packed.csv").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 100_000))
    pl.select(a=pl.repeat(1, 1_000), b=pl.repeat(2, 1_000)).write_parquet(tmp_path / "long.parquet")
    tools = AnalysisTools(DataFolder(tmp_path))
    with pytest.raises(ToolError, match="compressed; unpack it first"):
        tools.describe("packed.csv")
    assert "1000" in str(tools.describe("long.parquet"))


def test_a_parquet_file_of_too_many_values_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_index.packs.mixture_of_agents.agents.tools.frames.MOST_CELLS", 1_999)
    pl.select(a=pl.repeat(1, 1_000), b=pl.repeat(2, 1_000)).write_parquet(tmp_path / "long.parquet")
    with pytest.raises(ToolError, match="holds 2000 values; at most 1999"):
        AnalysisTools(DataFolder(tmp_path)).describe("long.parquet")
