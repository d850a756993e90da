"""SQLite's functions that may take for ever in one call, in forms that cannot.

A statement is stopped between steps of SQLite's machine, never inside a function: its `instr` and `replace`
take a length squared, its `printf` counts to any width. What stands here says the same in bounded time.
What a statement may do otherwise is not known here.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import Any, TypeAlias

Value: TypeAlias = "str | bytes | int | float | None"

REFUSED = {"json_patch", "zeroblob", "randomblob"}
"""No form of these is bounded."""
_WIDEST = 1000
_MOST_TRIMMED = 100
_WIDTH = re.compile(r"%[^%A-Za-z]*")


def install(connection: sqlite3.Connection, largest: int) -> None:
    """Put the bounded forms in the place of SQLite's own.

    Args:
        connection: Where.
        largest: Characters a value may have.
    """
    functions: list[tuple[str, int, Callable[..., Value]]] = [
        ("instr", 2, _instr),
        ("replace", 3, _replace_within(largest)),
        ("trim", 2, _trim("strip")),
        ("ltrim", 2, _trim("lstrip")),
        ("rtrim", 2, _trim("rstrip")),
        ("printf", -1, _printf),
        ("format", -1, _printf),
    ]
    for name, count, function in functions:
        connection.create_function(name, count, function, deterministic=True)


def _instr(value: Value, wanted: Value) -> int | None:
    if value is None or wanted is None:
        return None
    if isinstance(value, bytes) and isinstance(wanted, bytes):
        return value.find(wanted) + 1
    return _text(value).find(_text(wanted)) + 1


def _replace_within(largest: int) -> Callable[[Value, Value, Value], Value]:
    def replace(value: Value, old: Value, new: Value) -> Value:
        if value is None or old is None:
            return None
        text, wanted = _text(value), _text(old)
        if new is None or not wanted:
            return None if wanted else value
        instead = _text(new)
        if len(text) + text.count(wanted) * (len(instead) - len(wanted)) > largest:
            raise ValueError("string or blob too big")
        return text.replace(wanted, instead)

    return replace


def _trim(how: str) -> Callable[[Value, Value], str | None]:
    def trim(value: Value, signs: Value) -> str | None:
        if value is None or signs is None:
            return None
        if len(_text(signs)) > _MOST_TRIMMED:
            raise ValueError(f"at most {_MOST_TRIMMED} characters can be trimmed")
        trimmed: str = getattr(_text(value), how)(_text(signs)) if _text(signs) else _text(value)
        return trimmed

    return trim


def _printf(*given: Any) -> Value:
    """SQLite's own, asked of an empty database, once its widths are seen to be small."""
    if not given or given[0] is None:
        return None
    widths = " ".join(_WIDTH.findall(_text(given[0])))
    if "*" in widths or any(
        len(digits) > 4 or int(digits) > _WIDEST for digits in re.findall(r"\d+", widths)
    ):
        raise ValueError(f"a width in printf is a number up to {_WIDEST}")
    marks = ", ".join("?" * len(given))
    made = sqlite3.connect(":memory:")
    try:
        found: Value = made.execute(f"SELECT printf({marks})", given).fetchone()[0]
    finally:
        made.close()
    return found


def _text(value: Value) -> str:
    """As SQLite writes a value."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if not isinstance(value, float):
        return str(value)
    digits, mark, power = f"{value:.15g}".partition("e")
    return f"{digits}{'' if '.' in digits or not digits[-1].isdigit() else '.0'}{mark}{power}"
