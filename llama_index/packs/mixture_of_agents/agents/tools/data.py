"""The data specialist's tools: look at tables, ask them in SQL, find what is wrong, save a cleaned copy.

Reading needs nobody's leave. The one tool that writes makes a new CSV file in the data folder, after a
confirmation. Who uses them is not known here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Annotated, Any

from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field

from llama_index.packs.mixture_of_agents.agents.tools import cleaning
from llama_index.packs.mixture_of_agents.agents.tools.consent import Confirm, require_consent
from llama_index.packs.mixture_of_agents.agents.tools.csv_tables import quoted
from llama_index.packs.mixture_of_agents.agents.tools.database import Source, reading, select
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.agents.tools.rows import Limits, Rows, drawn
from llama_index.packs.mixture_of_agents.agents.tools.typed import typed_tool
from llama_index.packs.mixture_of_agents.calls.threads import in_thread
from llama_index.packs.mixture_of_agents.errors import ToolError

_LARGEST_FILE = 100_000_000
_MOST_FAULTS = 20
TableName = Annotated[str, Field(description="Name of a table, as list_tables gives it")]


class TableList(BaseModel):
    """The tables there are, with their columns, and what was odd about their files."""

    source: str
    tables: dict[str, list[str]]
    faults: list[str] = []

    def __str__(self) -> str:
        lines = [f"{name}: {', '.join(columns)}" for name, columns in self.tables.items()]
        return "\n".join([f"Tables in {self.source}:", *(lines or ["none"]), *self.faults])


class TableShape(BaseModel):
    """A table's columns and its first rows."""

    table: str
    columns: dict[str, str]
    sample: Rows

    def __str__(self) -> str:
        columns = ", ".join(f"{name} {kind}".strip() for name, kind in self.columns.items())
        return f"{self.table} ({columns})\n{self.sample}"


class DataTools:
    """Read-only SQL over one source, as tools.

    Args:
        source: `SqliteFile(path)` or `CsvFolder(DataFolder(path))`.
        folder: Where a cleaned table may be saved; None for nowhere.
        confirm: Who is asked before a file is written; None for nobody, so that nothing is.
        limits: Of a statement's time and its result's size.
    """

    def __init__(
        self,
        source: Source,
        *,
        folder: DataFolder | None = None,
        confirm: Confirm | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._source = source
        self._folder = folder
        self._confirm = confirm
        self._limits = limits or Limits()

    def tools(self) -> list[FunctionTool]:
        """The tools; the one that writes is among them where there is a folder to write to."""
        reading_ones: list[Callable[..., Any]] = [
            self.list_tables,
            self.describe_table,
            self.query,
            self.check_quality,
        ]
        writing = [typed_tool(self.save_cleaned)] if self._folder else []
        return [typed_tool(one) for one in reading_ones] + writing

    def list_tables(self) -> TableList:
        """List the tables of the data source and their columns. Start here."""
        names = cleaning.tables(self._source, self._limits)
        return TableList(
            source=self._source.name,
            tables={
                name: [c.name for c in cleaning.columns(self._source, name, self._limits)] for name in names
            },
            faults=list(getattr(self._source, "faults", []))[:_MOST_FAULTS],
        )

    def describe_table(self, table: TableName) -> TableShape:
        """Show the columns of a table with their types, and its first three rows."""
        columns = cleaning.columns(self._source, table, self._limits)
        sample = select(self._source, f"SELECT * FROM {quoted(table)} LIMIT 3", self._limits)
        return TableShape(table=table, columns={c.name: c.type for c in columns}, sample=sample)

    def query(self, sql: Annotated[str, Field(description="One SELECT statement, in SQLite's SQL")]) -> Rows:
        """Answer a question with one SQL SELECT over the tables. The data is read-only."""
        return select(self._source, sql, self._limits)

    def check_quality(self, table: TableName) -> cleaning.Quality:
        """Report what is wrong with a table: nulls, mixed types, duplicates, stray spaces."""
        return cleaning.quality(self._source, table, self._limits)

    async def save_cleaned(
        self,
        table: TableName,
        file: Annotated[str, Field(description="Name of the new file, ending in .csv")],
        trim: Annotated[bool, Field(description="Remove spaces around texts")] = True,
        drop_duplicates: Annotated[bool, Field(description="Keep one of equal rows")] = True,
        required: Annotated[list[str], Field(description="Columns that must not be null")] = [],  # noqa: B006
    ) -> str:
        """Save a cleaned copy of a table as a new CSV file. A person is asked before it is written."""
        if self._folder is None:
            raise ToolError("there is no folder to save to")
        self._folder.room_for(file, (".csv",))
        content, count = await in_thread(lambda: self._cleaned(table, trim, drop_duplicates, required))
        await require_consent(
            self._confirm,
            f"saving {count} cleaned rows of table {table!r} as {file!r} in {self._folder.path.name!r}",
        )
        return f"saved {count} rows as {self._folder.write(file, content, ('.csv',))}"

    def _cleaned(self, table: str, trim: bool, drop: bool, required: list[str]) -> tuple[bytes, int]:
        names = [column.name for column in cleaning.columns(self._source, table, self._limits)]
        sql = cleaning.cleaned_sql(names, table, trim=trim, drop_duplicates=drop, required=required)
        text, count = io.StringIO(), 0
        writer = csv.writer(text)
        writer.writerow(names)
        with reading(self._source, sql, self._limits) as cursor:
            for row in drawn(cursor):
                writer.writerow(row)
                count += 1
                if text.tell() > _LARGEST_FILE:
                    raise ToolError(f"the cleaned table is larger than {_LARGEST_FILE} characters")
        return text.getvalue().encode("utf-8"), count
