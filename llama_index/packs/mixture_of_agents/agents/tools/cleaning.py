"""What is wrong with a table, counted, and the statement that reads it cleaned.

Everything is one SELECT, so a source that only reads is enough. Where results go is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from llama_index.packs.mixture_of_agents.agents.tools.csv_tables import quoted
from llama_index.packs.mixture_of_agents.agents.tools.database import Source, select
from llama_index.packs.mixture_of_agents.agents.tools.rows import Limits
from llama_index.packs.mixture_of_agents.errors import ToolError

_EVERYTHING = 100_000
"""Characters of an answer that is counted, not shown."""


class Column(BaseModel):
    """A column and its declared type, upper case; empty where none is declared."""

    name: str
    type: str


class ColumnQuality(BaseModel):
    """What stands in a column.

    Attributes:
        column: Its name.
        declared: Its declared type.
        found: How many values there are of each type that stands in it, as SQLite's `typeof` names them.
        nulls: Empty places.
        distinct: Different values.
        padded: Texts with spaces before or after.
        least: The smallest value, as text.
        most: The largest value, as text.
    """

    column: str
    declared: str
    found: dict[str, int]
    nulls: int
    distinct: int
    padded: int
    least: str | None
    most: str | None

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.found.items())) or "no values"
        span = f"; from {self.least!r} to {self.most!r}" if self.least is not None else ""
        padded = f"; {self.padded} with spaces around" if self.padded else ""
        declared = self.declared or "no type"
        return (
            f"{self.column} ({declared}): {kinds}; {self.nulls} null; {self.distinct} distinct{padded}{span}"
        )


class Quality(BaseModel):
    """What is wrong with a table.

    Attributes:
        table: Its name.
        rows: How many.
        duplicates: Rows that are equal to an earlier one in every column.
        columns: One report each.
        faults: What was odd when the data was loaded.
    """

    table: str
    rows: int
    duplicates: int
    columns: list[ColumnQuality]
    faults: list[str] = []

    def __str__(self) -> str:
        head = f"{self.table}: {self.rows} rows, {self.duplicates} of them duplicates of an earlier row"
        return "\n".join([head, *map(str, self.columns), *self.faults])


def tables(source: Source, limits: Limits) -> list[str]:
    """Names of the tables and views, sorted; SQLite's own are left out."""
    sql = (
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name"
    )
    return [str(row[0]) for row in select(source, sql, _all(limits)).rows]


def columns(source: Source, table: str, limits: Limits) -> list[Column]:
    """The columns of a table or view.

    Raises:
        ToolError: There is no such table.
    """
    known = tables(source, limits)
    if table not in known:
        raise ToolError(f"there is no table {table!r}; there are: {', '.join(known) or 'none'}")
    sql = "SELECT name, upper(type) FROM pragma_table_info(?)"
    rows = select(source, sql, _all(limits), (table,)).rows
    return [Column(name=str(name), type=str(kind or "")) for name, kind in rows]


def quality(source: Source, table: str, limits: Limits) -> Quality:
    """Count nulls, types, duplicates and stray spaces of a table.

    Raises:
        ToolError: There is no such table, or counting took too long.
    """
    named = columns(source, table, limits)
    (rows,) = _one(source, f"SELECT count(*) FROM {quoted(table)}", limits)
    (distinct,) = _one(source, f"SELECT count(*) FROM (SELECT DISTINCT * FROM {quoted(table)})", limits)
    return Quality(
        table=table,
        rows=rows,
        duplicates=rows - distinct,
        columns=[_column_quality(source, table, column, limits) for column in named],
        faults=list(getattr(source, "faults", [])),
    )


def _column_quality(source: Source, table: str, column: Column, limits: Limits) -> ColumnQuality:
    name, place = quoted(column.name), quoted(table)
    nulls, distinct, padded, least, most = _one(
        source,
        f"SELECT sum({name} IS NULL), count(DISTINCT {name}), "
        f"sum(typeof({name}) = 'text' AND trim({name}) <> {name}), min({name}), max({name}) FROM {place}",
        limits,
    )
    kinds = select(
        source,
        f"SELECT typeof({name}), count(*) FROM {place} WHERE {name} IS NOT NULL GROUP BY 1",
        _all(limits),
    )
    return ColumnQuality(
        column=column.name,
        declared=column.type,
        found={str(kind): count for kind, count in kinds.rows},
        nulls=nulls or 0,
        distinct=distinct,
        padded=padded or 0,
        least=None if least is None else str(least),
        most=None if most is None else str(most),
    )


def cleaned_sql(
    names: Sequence[str], table: str, *, trim: bool, drop_duplicates: bool, required: Sequence[str]
) -> str:
    """The SELECT that reads a table cleaned.

    Args:
        names: Its columns.
        table: Its name.
        trim: Whether spaces around texts go; a text of nothing else becomes NULL.
        drop_duplicates: Whether of equal rows one is kept; after trimming.
        required: Columns in which a row must have a value to be kept; after trimming.

    Raises:
        ToolError: A required column is none of the table's.
    """
    unknown = sorted(set(required) - set(names))
    if unknown:
        raise ToolError(f"{table!r} has no column {', '.join(unknown)}; it has: {', '.join(names)}")
    read = [_trimmed(name) if trim else quoted(name) for name in names]
    inner = f"SELECT {', '.join(read)} FROM {quoted(table)}"
    kept = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in required) or "1"
    return f"SELECT {'DISTINCT ' if drop_duplicates else ''}* FROM ({inner}) WHERE {kept}"


def _trimmed(name: str) -> str:
    column = quoted(name)
    return (
        f"CASE WHEN typeof({column}) = 'text' THEN nullif(trim({column}), '') ELSE {column} END AS {column}"
    )


def _one(source: Source, sql: str, limits: Limits) -> list[Any]:
    return select(source, sql, _all(limits)).rows[0]


def _all(limits: Limits) -> Limits:
    return limits.model_copy(update={"rows": _EVERYTHING, "characters": _EVERYTHING})
