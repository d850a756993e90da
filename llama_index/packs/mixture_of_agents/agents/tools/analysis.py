"""The analysis specialist's tools: describe, filter, group, rank, join and bucket tables in time.

Every question is typed parameters over named columns; no code of a model's is ever run, and nothing is
written. Results are for a model to read, so they have a size. Who uses them is not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from llama_index.core.tools import FunctionTool
from pydantic import Field

from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.agents.tools.frames import (
    ENDINGS,
    as_rows,
    columns_known,
    polars,
    read_table,
)
from llama_index.packs.mixture_of_agents.agents.tools.measures import Condition, Measure, expressions, met
from llama_index.packs.mixture_of_agents.agents.tools.rows import Limits, Rows
from llama_index.packs.mixture_of_agents.agents.tools.typed import typed_tool
from llama_index.packs.mixture_of_agents.errors import ToolError

if TYPE_CHECKING:
    import polars as pl

_MOST_JOINED = 5_000_000
"""Rows of a join: a key that repeats on both sides multiplies."""

File = Annotated[str, Field(description="Name of a table file in the data folder, as list_files gives it")]
Where = Annotated[list[Condition], Field(description="Conditions that rows must meet, all of them")]
Measures = Annotated[list[Measure], Field(description="What to compute per group; empty counts rows")]
Columns = Annotated[list[str], Field(description="Columns to show; empty for all")]
By = Annotated[list[str], Field(description="Columns whose values make the groups")]
Every = Literal["minute", "hour", "day", "week", "month", "quarter", "year"]

_SPANS: dict[str, str] = {
    "minute": "1m",
    "hour": "1h",
    "day": "1d",
    "week": "1w",
    "month": "1mo",
    "quarter": "1q",
    "year": "1y",
}


class AnalysisTools:
    """Questions about table files, as tools.

    Args:
        folder: Where the files are.
        limits: Of a result's size.
    """

    def __init__(self, folder: DataFolder, *, limits: Limits | None = None) -> None:
        self._folder = folder
        self._limits = limits or Limits()

    def tools(self) -> list[FunctionTool]:
        """The tools; none of them writes."""
        return [
            typed_tool(method)
            for method in (
                self.list_files,
                self.describe,
                self.filter_rows,
                self.group,
                self.top,
                self.join,
                self.time_buckets,
            )
        ]

    def list_files(self) -> str:
        """List the table files in the data folder. Start here."""
        return "\n".join(self._folder.files(ENDINGS)) or "there are none"

    def describe(self, file: File) -> Rows:
        """Describe each column of a table: type, nulls, distinct values, and for numbers mean and spread."""
        frame = self._table(file)
        return as_rows(polars().DataFrame(_described(frame)), self._limits)

    def filter_rows(
        self,
        file: File,
        where: Where = [],  # noqa: B006
        columns: Columns = [],  # noqa: B006
        sort_by: str | None = None,
    ) -> Rows:
        """Show the rows of a table that meet conditions."""
        frame = met(self._table(file), where)
        columns_known(frame, sort_by, *columns)
        frame = frame.sort(sort_by) if sort_by else frame
        return as_rows(frame.select(columns) if columns else frame, self._limits)

    def group(self, file: File, by: By, measures: Measures = [], where: Where = []) -> Rows:  # noqa: B006
        """Compute measures per group of rows: counts, sums, means and so on."""
        return as_rows(grouped(met(self._table(file), where), by, measures), self._limits)

    def top(
        self,
        file: File,
        column: Annotated[str, Field(description="Column to rank by")],
        count: Annotated[int, Field(ge=1, le=1000)] = 10,
        smallest: bool = False,
        where: Where = [],  # noqa: B006
    ) -> Rows:
        """Show the rows with the largest (or smallest) values of a column; rows without one are left out."""
        frame = met(self._table(file), where)
        columns_known(frame, column)
        ranked = frame.drop_nulls(column).sort(column, descending=not smallest, maintain_order=True)
        return as_rows(ranked.head(count), self._limits)

    def join(
        self,
        left: File,
        right: File,
        on: Annotated[list[str], Field(description="Columns that both tables have and that must be equal")],
        how: Literal["inner", "left"] = "inner",
        where: Where = [],  # noqa: B006
    ) -> Rows:
        """Put two tables together on equal columns."""
        return as_rows(met(joined(self._table(left), self._table(right), on, how), where), self._limits)

    def time_buckets(
        self,
        file: File,
        time_column: str,
        every: Every,
        measures: Measures = [],  # noqa: B006
        where: Where = [],  # noqa: B006
    ) -> Rows:
        """Compute measures per span of time: per hour, day, month and so on."""
        return as_rows(bucketed(met(self._table(file), where), time_column, every, measures), self._limits)

    def _table(self, file: str) -> pl.DataFrame:
        return read_table(self._folder, file)


def grouped(frame: pl.DataFrame, by: list[str], measures: list[Measure]) -> pl.DataFrame:
    """Measures per group, sorted by the groups; no groups make one of all rows.

    Raises:
        ToolError: A column is unknown or does not go with a measure.
    """
    columns_known(frame, *by)
    computed = expressions(frame, measures)
    if not by:
        return frame.select(computed)
    return frame.group_by(by, maintain_order=True).agg(computed).sort(by, nulls_last=True)


def bucketed(frame: pl.DataFrame, time_column: str, every: Every, measures: list[Measure]) -> pl.DataFrame:
    """Measures per span of time, in order; spans without rows are left out.

    Raises:
        ToolError: The column is unknown or holds no times.
    """
    library = polars()
    columns_known(frame, time_column)
    column = library.col(time_column)
    if frame.schema[time_column] == library.String:
        frame = frame.with_columns(_times(frame, time_column))
    if not frame.schema[time_column].is_temporal():
        raise ToolError(f"{time_column!r} holds {frame.schema[time_column]}, no times")
    span = column.cast(library.Datetime).dt.truncate(_SPANS[every])
    return grouped(frame.drop_nulls(time_column).with_columns(span), [time_column], measures)


def _times(frame: pl.DataFrame, column: str) -> pl.Series:
    library = polars()
    try:
        times: pl.Series = (
            frame[column].str.to_datetime(strict=True, time_zone="UTC").dt.replace_time_zone(None)
        )
    except library.exceptions.PolarsError:
        try:
            times = frame[column].str.to_datetime(strict=True)
        except library.exceptions.PolarsError as error:
            raise ToolError(f"{column!r} holds texts that are no times: {error}") from error
    return times


def joined(
    left: pl.DataFrame, right: pl.DataFrame, on: list[str], how: Literal["inner", "left"]
) -> pl.DataFrame:
    """Two frames put together, unless that would be too many rows.

    Raises:
        ToolError: No columns are given, one is unknown, types differ, or the result is too large.
    """
    library = polars()
    if not on:
        raise ToolError("name at least one column to join on")
    columns_known(left, *on)
    columns_known(right, *on)
    try:
        sizes = left.group_by(on).len("left:rows").join(right.group_by(on).len("right:rows"), on=on)
        wide = sizes.select(library.col("left:rows", "right:rows").cast(library.Int64))
        size = int((wide["left:rows"] * wide["right:rows"]).sum())
        if size > _MOST_JOINED:
            raise ToolError(f"that join would have {size} rows; at most {_MOST_JOINED}. Filter first")
        return left.join(right, on=on, how=how, maintain_order="left")
    except library.exceptions.PolarsError as error:
        raise ToolError(f"these tables cannot be joined on {', '.join(on)}: {error}") from error


def _described(frame: pl.DataFrame) -> list[dict[str, object]]:
    return [
        {
            "column": name,
            "type": str(kind),
            "rows": frame.height,
            "nulls": frame[name].null_count(),
            "distinct": _distinct(frame[name]),
            "least": _extreme(frame[name], "min"),
            "most": _extreme(frame[name], "max"),
            "mean": frame[name].mean() if kind.is_numeric() else None,
            "deviation": frame[name].std() if kind.is_numeric() else None,
        }
        for name, kind in frame.schema.items()
    ]


def _distinct(series: pl.Series) -> int | None:
    return None if series.dtype.is_nested() else series.n_unique()


def _extreme(series: pl.Series, which: Literal["min", "max"]) -> str | None:
    if series.dtype.is_nested() or series.null_count() == len(series):
        return None
    return str(series.min() if which == "min" else series.max())
