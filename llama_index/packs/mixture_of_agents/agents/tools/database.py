"""SQL that only reads: a SQLite file, or CSV files as tables, behind three doors.

The file is opened read-only, the connection refuses to write (`PRAGMA query_only`), and SQLite's authorizer
lets a statement do nothing but select and call harmless functions: no ATTACH, no PRAGMA, no extension
(https://www.sqlite.org/security.html). A statement has a deadline, and its result a size. What is asked is
not known here.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from llama_index.packs.mixture_of_agents.agents.tools import sql_functions
from llama_index.packs.mixture_of_agents.agents.tools.csv_tables import load_folder
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.agents.tools.rows import Limits, Rows, drawn, shown_rows
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ToolError

_LONGEST_SQL = 20_000
_LARGEST_VALUE = 2_000_000
"""Bytes a value may have inside SQLite; `replace` and `||` would otherwise make gigabytes."""
_LONGEST_PATTERN = 100
"""Characters LIKE and GLOB may look for: they take the product of both lengths, and cannot be stopped."""
_STEPS = 200
"""Of SQLite's machine between two looks at the clock: few, because a step may call a slow function."""
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_ALLOWED_PRAGMAS = {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"}
"""They only read the schema. FTS5 tables ask for `data_version` by themselves."""
_REFUSED_FUNCTIONS = {
    *sql_functions.REFUSED,
    "load_extension",
    "fts3_tokenizer",
    "readfile",
    "writefile",
    "edit",
}


class Source(Protocol):
    """Where rows come from."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    def connection(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """A guarded connection, for one thread and one statement at a time."""


class SqliteFile:
    """A SQLite database file; each statement has a connection of its own, so threads do not wait.

    Args:
        path: An existing database.

    Attributes:
        name: The file's name.

    Raises:
        ConfigurationError: There is no such file, or it is no SQLite database.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).expanduser().resolve()
        self.name = self._path.name
        if not self._path.is_file():
            raise ConfigurationError(f"there is no database file {str(path)!r}")
        try:
            with self.connection() as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise ConfigurationError(f"{self.name!r} is no readable SQLite database: {error}") from error

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Open the file read-only, guarded, and close it again."""
        address = f"file:{quote(self._path.as_posix())}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=5.0)) as connection:
            _guard(connection)
            yield connection


class CsvFolder:
    """The CSV and TSV files of a folder as tables in memory, loaded when first asked for.

    Args:
        folder: Where they are; a table is named by its file.

    Attributes:
        name: The folder's name.
        faults: What was odd about the files, such as lines that are too long; empty before the first use.
    """

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self.name = folder.path.name
        self.faults: list[str] = []
        self._lock = threading.Lock()
        self._loaded: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """The one connection that holds the tables; others wait for it."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            yield self._loaded

    def _load(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self.faults = load_folder(connection, self._folder)
            connection.commit()
            _guard(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Let go of the tables; the next question loads the files again, as they are then."""
        with self._lock:
            if self._loaded is not None:
                self._loaded.close()
                self._loaded = None


def select(source: Source, sql: str, limits: Limits, parameters: Sequence[object] = ()) -> Rows:
    """Run one reading statement, and take the rows that fit; arguments and errors are `reading`'s."""
    with reading(source, sql, limits, parameters) as cursor:
        return shown_rows([column[0] for column in cursor.description], drawn(cursor), limits)


@contextlib.contextmanager
def reading(
    source: Source,
    sql: str,
    limits: Limits,
    parameters: Sequence[object] = (),
    now: Callable[[], float] = time.monotonic,
) -> Iterator[sqlite3.Cursor]:
    """The open cursor of one reading statement.

    Args:
        source: What it reads from.
        sql: One SELECT, with or without WITH.
        limits: Of its time, drawing the rows included.
        parameters: Values for its question marks.
        now: A clock, in seconds.

    Raises:
        ToolError: It writes, is several statements, is wrong, or took too long.
    """
    if len(sql) > _LONGEST_SQL or "\0" in sql:
        raise ToolError(f"a statement is at most {_LONGEST_SQL} characters of text; found {len(sql)}")
    try:
        with (
            source.connection() as connection,
            _deadline(connection, limits.seconds, now),
            contextlib.closing(connection.execute(sql, tuple(parameters))) as cursor,
        ):
            if cursor.description is None:
                raise ToolError("that statement gives no rows; only SELECT is allowed")
            yield cursor
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError) as error:
        raise ToolError(_explained(error, limits)) from error


@contextlib.contextmanager
def _deadline(connection: sqlite3.Connection, seconds: float, now: Callable[[], float]) -> Iterator[None]:
    end = now() + seconds
    connection.set_progress_handler(lambda: int(now() > end), _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def _guard(connection: sqlite3.Connection) -> None:
    connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
    connection.execute("PRAGMA query_only = ON")
    # A view may call what stands in for SQLite's own; the authorizer looks at the schema's calls, too.
    sql_functions.install(connection, _LARGEST_VALUE)
    connection.execute("PRAGMA trusted_schema = ON")
    connection.execute("PRAGMA cell_size_check = ON")
    if hasattr(connection, "setlimit"):  # Python 3.11
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _LONGEST_PATTERN)
    connection.set_authorizer(_authorize)


def _authorize(action: int, first: str | None, second: str | None, *_: object) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _REFUSED_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and first in _ALLOWED_PRAGMAS | {"data_version"}:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
        return sqlite3.SQLITE_OK  # how SQLite names opening a virtual table; a real update it refuses anyway
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _explained(error: Exception, limits: Limits) -> str:
    said = str(error)
    if said == "interrupted":
        return f"the statement was stopped after {limits.seconds:g} seconds; make it read less"
    if any(word in said for word in ("not authorized", "authorization denied", "prohibited", "readonly")):
        return f"refused ({said}): this data is read-only; only SELECT and harmless functions are allowed"
    if "too big" in said or "function raised" in said:
        return (
            f"a value is larger than {_LARGEST_VALUE} bytes, or a width or a set of characters too large; "
            f"leave such a column out, or ask for its length ({said})"
        )
    if "one statement" in said:
        return "give one statement at a time"
    return f"SQLite says: {said}"
