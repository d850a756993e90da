"""CSV and TSV files as tables of a SQLite connection, with types found in the values.

A column whose every value is a whole number is INTEGER, a number REAL, anything else TEXT; an empty field is
NULL. A number with leading zeros, such as a postcode, stays text. What is asked of the tables is not known
here.
"""

from __future__ import annotations

import csv
import itertools
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.errors import ToolError

ENDINGS = (".csv", ".tsv")
LARGEST = 200_000_000
"""Bytes of all files together: they are held in memory."""
_MOST_COLUMNS = 500
_MOST_TOLD = 5
_SAMPLE = 64 * 1024
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")


def load_folder(connection: sqlite3.Connection, folder: DataFolder) -> list[str]:
    """Make a table of each file.

    Args:
        connection: Where to make them.
        folder: Where the files are.

    Returns:
        What was odd about the files, one sentence each; a file that cannot be read is one of them, and costs
        the others nothing.

    Raises:
        ToolError: There are none, they are too large, or none can be read as text.
    """
    names = folder.files(ENDINGS)
    paths = [folder.file(name) for name in names]
    if not paths:
        raise ToolError(f"there are no {' or '.join(ENDINGS)} files in the data folder")
    size = sum(path.stat().st_size for path in paths)
    if size > LARGEST:
        raise ToolError(
            f"the files are {size} bytes together; at most {LARGEST} are loaded. Use a SQLite file"
        )
    tables = unique([_plain(Path(name).with_suffix("").as_posix()) for name in names])
    faults, unreadable = list[str](), list[str]()
    for table, path in zip(tables, paths, strict=True):
        try:
            faults += _load(connection, table, path)
        except ToolError as error:
            unreadable.append(str(error))
    if len(unreadable) == len(paths):
        raise ToolError("; ".join(unreadable[:_MOST_TOLD]))
    return [*faults, *unreadable]


def unique(names: Sequence[str]) -> list[str]:
    """The names, numbered where one comes again; SQLite does not tell cases apart."""
    seen: set[str] = set()
    given = []
    for name in names:
        numbered = next(
            candidate
            for candidate in itertools.chain([name], (f"{name}_{n}" for n in itertools.count(2)))
            if candidate.lower() not in seen
        )
        seen.add(numbered.lower())
        given.append(numbered)
    return given


def quoted(name: str) -> str:
    """A table's or column's name as SQL takes any name."""
    return '"' + name.replace('"', '""') + '"'


def _plain(name: str) -> str:
    plain = re.sub(r"\W+", "_", name).strip("_") or "table"
    return f"t_{plain}" if plain[0].isdigit() or plain.lower().startswith("sqlite_") else plain


def _load(connection: sqlite3.Connection, table: str, path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            dialect = _dialect(file.read(_SAMPLE), path)
            file.seek(0)
            rows = csv.reader(file, dialect)
            header = next(rows, None)
            if not header:
                yield f"{path.name} is empty"
                return
            columns = _columns(header, path)
            yield from _fill(connection, table, columns, rows, path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ToolError(f"{path.name} cannot be read as UTF-8 CSV: {error}. Save it as UTF-8") from error


def _dialect(sample: str, path: Path) -> type[csv.Dialect]:
    class Found(csv.excel):
        delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(sample)

    return Found


def _delimiter(sample: str) -> str:
    """The likeliest of four, by how often it stands in the header."""
    header = sample.partition("\n")[0]
    return max(",;\t|", key=header.count)


def _columns(header: Sequence[str], path: Path) -> list[str]:
    if len(header) > _MOST_COLUMNS:
        raise ToolError(f"{path.name} has {len(header)} columns; at most {_MOST_COLUMNS} are loaded")
    named = [name.strip().replace("\0", "") or f"column_{n}" for n, name in enumerate(header, 1)]
    return unique(named)


def _fill(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[list[str]], path: Path
) -> Iterator[str]:
    width, odd = len(columns), 0
    kept: list[list[str | None]] = []
    for row in rows:
        if not row:
            continue
        odd += len(row) != width
        kept.append([value if value != "" else None for value in (row + [""] * width)[:width]])
    types = [_type(row[place] for row in kept) for place in range(width)]
    declared = ", ".join(f"{quoted(name)} {kind}" for name, kind in zip(columns, types, strict=True))
    connection.execute(f"CREATE TABLE {quoted(table)} ({declared})")
    connection.executemany(f"INSERT INTO {quoted(table)} VALUES ({', '.join('?' * width)})", kept)
    if odd:
        yield f"{path.name}: {odd} lines have more or fewer fields than the header; filled up or cut to fit"


def _type(values: Iterable[str | None]) -> str:
    """SQLite turns a text into the number it is, where the column is of that type."""
    kinds = {_kind(value) for value in values if value is not None}
    if not kinds or "TEXT" in kinds:
        return "TEXT"
    return "REAL" if "REAL" in kinds else "INTEGER"


def _kind(value: str) -> str:
    if _WHOLE.fullmatch(value):
        return "INTEGER"
    return "REAL" if _NUMBER.fullmatch(value) else "TEXT"
