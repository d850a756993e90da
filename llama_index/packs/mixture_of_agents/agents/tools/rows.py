"""Rows for a model to read: few enough, short enough, and honest about what was left out.

Knows values and texts; neither SQL nor data frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MOST_ROWS = 100
MOST_CHARACTERS = 16_000
_MOST_IN_A_CELL = 500


class Limits(BaseModel):
    """How much of a result is shown.

    Attributes:
        rows: At most so many rows.
        characters: At most so many characters over all cells.
        seconds: The longest a statement may run.
    """

    model_config = ConfigDict(frozen=True)

    rows: int = Field(default=MOST_ROWS, ge=1)
    characters: int = Field(default=MOST_CHARACTERS, ge=1)
    seconds: float = Field(default=10.0, gt=0, allow_inf_nan=False)


class Rows(BaseModel):
    """A table as a model reads it; `str()` of it is what the model sees.

    Attributes:
        columns: Their names.
        rows: The rows shown; a value is a number, a text or None.
        note: What was left out or cut; empty where nothing was.
    """

    columns: list[str]
    rows: list[list[Any]]
    note: str = ""

    def __str__(self) -> str:
        lines = [" | ".join(self.columns)]
        lines += [" | ".join(_in_words(value) for value in row) for row in self.rows]
        counted = "1 row" if len(self.rows) == 1 else f"{len(self.rows)} rows"
        return "\n".join([*lines, f"({counted}{'; ' + self.note if self.note else ''})"])


def shown_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], limits: Limits) -> Rows:
    """Take rows while they fit, and say what did not.

    Args:
        columns: Their names.
        rows: Any number of rows; no more are drawn than are shown, and one to see whether there are more.
        limits: How much fits.
    """
    kept: list[list[Any]] = []
    notes: list[str] = []
    room, shortened = limits.characters, 0
    for row in rows:
        cells = [_cell(value) for value in row]
        shortened += sum(cut for _, cut in cells)
        size = sum(len(_in_words(value)) for value, _ in cells)
        if len(kept) == limits.rows or (size > room and kept):
            limit = f"{limits.rows} rows" if len(kept) == limits.rows else f"{limits.characters} characters"
            notes.append(f"cut at {limit}: there are more; narrow the question or aggregate")
            break
        room -= size
        kept.append([value for value, _ in cells])
    if shortened:
        notes.append(f"{shortened} long values were shortened to {_MOST_IN_A_CELL} characters")
    return Rows(columns=list(columns), rows=kept, note="; ".join(notes))


def drawn(cursor: Any) -> Iterator[Sequence[Any]]:
    """The rows of a database cursor, drawn one by one: a batch of large ones would be held all at once."""
    while (row := cursor.fetchone()) is not None:
        yield row


def _cell(value: object) -> tuple[Any, bool]:
    """A value that JSON can hold, and whether it was cut."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"({len(value)} bytes)", False
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value), False
    if value is None or isinstance(value, (bool, int, float)):
        return value, False
    text = str(value)
    return (text, False) if len(text) <= _MOST_IN_A_CELL else (f"{text[:_MOST_IN_A_CELL]}...", True)


def _in_words(value: object) -> str:
    """One line per row: a line break inside a value is written as one."""
    if value is None:
        return "NULL"
    return str(value).replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n").replace("|", "\\|")
