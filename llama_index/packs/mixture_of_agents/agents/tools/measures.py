"""What may be asked of a table, as typed parameters: conditions on rows and measures over groups.

Each becomes a polars expression; there is no text that is run as code. Files and models are not known here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from llama_index.packs.mixture_of_agents.agents.tools.frames import columns_known, polars
from llama_index.packs.mixture_of_agents.errors import ToolError

if TYPE_CHECKING:
    import polars as pl

Comparison: TypeAlias = Literal[
    "equal", "not equal", "less", "at most", "more", "at least", "contains", "one of", "null", "not null"
]
How: TypeAlias = Literal["count", "sum", "mean", "median", "least", "most", "deviation", "distinct"]
Value: TypeAlias = int | float | bool | str

_NUMERIC = ("sum", "mean", "median", "deviation")


class Condition(BaseModel):
    """A condition that rows must meet, such as column "year", comparison "at least", value 2020."""

    model_config = ConfigDict(extra="forbid")

    column: str
    comparison: Comparison = "equal"
    value: Value | list[Value] | None = Field(
        default=None, description="What to compare with; a list for 'one of'; dates as text, 2026-03-31"
    )


class Measure(BaseModel):
    """A number per group, such as how "mean" of column "price"; "count" counts rows and needs no column."""

    model_config = ConfigDict(extra="forbid")

    how: How
    column: str | None = None

    @property
    def name(self) -> str:
        """What its column is called in the result."""
        return f"{self.how} of {self.column}" if self.column else "count"


def met(frame: pl.DataFrame, conditions: list[Condition]) -> pl.DataFrame:
    """The rows that meet every condition.

    Raises:
        ToolError: A column is unknown, or a value does not go with it.
    """
    library = polars()
    for condition in conditions:
        columns_known(frame, condition.column)
        try:
            frame = frame.filter(_expression(library, frame, condition))
        except library.exceptions.PolarsError as error:
            kind = frame.schema[condition.column]
            raise ToolError(
                f"{condition.column!r} ({kind}) cannot be compared with {condition.value!r}: {error}"
            ) from error
    return frame


def _expression(library: Any, frame: pl.DataFrame, condition: Condition) -> pl.Expr:
    column, value = library.col(condition.column), condition.value
    if condition.comparison in ("null", "not null"):
        empty: pl.Expr = column.is_null() if condition.comparison == "null" else column.is_not_null()
        return empty
    if value is None or isinstance(value, list) != (condition.comparison == "one of"):
        raise ToolError(f"{condition.comparison!r} needs {_needed(condition.comparison)} in `value`")
    if condition.comparison == "contains":
        found: pl.Expr = column.cast(library.String).str.contains(str(value), literal=True)
        return found
    kind = frame.schema[condition.column]
    literal = library.Series([value] if not isinstance(value, list) else value, strict=False)
    typed = literal.str.to_datetime(strict=False).cast(kind) if _is_date(literal, kind) else literal
    if condition.comparison == "one of":
        among: pl.Expr = column.is_in(typed.cast(kind).to_list())
        return among
    return _compared(column, condition.comparison, typed[0])


def _is_date(literal: pl.Series, kind: pl.DataType) -> bool:
    return kind.is_temporal() and literal.dtype == polars().String


def _compared(column: pl.Expr, comparison: Comparison, value: Any) -> pl.Expr:
    if value is None:
        raise ToolError("that value is no date of the form 2026-03-31 or 2026-03-31 12:00:00")
    compared: pl.Expr = _COMPARISONS[comparison](column, value)
    return compared


_COMPARISONS: Mapping[Comparison, Callable[[Any, Any], Any]] = {
    "equal": operator.eq,
    "not equal": operator.ne,
    "less": operator.lt,
    "at most": operator.le,
    "more": operator.gt,
    "at least": operator.ge,
}


def _needed(comparison: str) -> str:
    return "a list" if comparison == "one of" else "one value"


def expressions(frame: pl.DataFrame, measures: list[Measure]) -> list[pl.Expr]:
    """The measures, for `group_by(...).agg(...)`; none means the count of rows.

    Raises:
        ToolError: A column is unknown or holds no numbers, or two measures are the same.
    """
    names = [measure.name for measure in measures]
    if len(set(names)) < len(names):
        raise ToolError(f"each measure once; found {', '.join(names)}")
    return [_measured(frame, measure) for measure in measures or [Measure(how="count")]]


def _measured(frame: pl.DataFrame, measure: Measure) -> pl.Expr:
    library = polars()
    columns_known(frame, measure.column)
    if measure.column is None:
        if measure.how != "count":
            raise ToolError(f"{measure.how!r} needs a column")
        rows: pl.Expr = library.len().alias(measure.name)
        return rows
    if measure.how in _NUMERIC and not frame.schema[measure.column].is_numeric():
        kind = frame.schema[measure.column]
        raise ToolError(f"{measure.how!r} needs numbers; {measure.column!r} holds {kind}")
    column = library.col(measure.column)
    made: dict[str, pl.Expr] = {
        "count": column.count(),
        "sum": column.sum(),
        "mean": column.mean(),
        "median": column.median(),
        "least": column.min(),
        "most": column.max(),
        "deviation": column.std(),
        "distinct": column.n_unique(),
    }
    return made[measure.how].alias(measure.name)
