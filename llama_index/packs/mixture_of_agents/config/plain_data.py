"""Plain values out of what a caller or a file gives: texts, numbers, lists and tables, and nothing else.

YAML can hold a list that contains itself, and anchors that unfold to billions of values; both end here.
It knows no field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict

from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.config.faults import Place, refused

_DEEPEST = 24
_MOST = 20_000
_LARGEST = 2**63 - 1
"""TOML's largest whole number."""


class Table(BaseModel):
    """Base of the tables of a configuration: frozen, and no keys but its own."""

    # An error never prints what it was given: that may be a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _Copy:
    """One walk through a value; it counts what it has seen."""

    def __init__(self) -> None:
        self._seen = 0
        self._within: list[int] = []

    def of(self, value: object, place: Place) -> Any:
        self._count(place)
        if isinstance(value, Table):
            value = value.model_dump(exclude_unset=True)
        if isinstance(value, (Mapping, list, tuple)):
            return self._nested(value, place)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (str, PurePath)):
            return _text(str(value), place)
        if isinstance(value, (int, float)):
            return _number(value, place)
        raise refused(
            place, f" must be a text, a number, true or false, a list or a table; found {shown(value)}."
        )

    def _count(self, place: Place) -> None:
        self._seen += 1
        if self._seen > _MOST:
            raise refused(place[:1], f" holds more than {_MOST} values once its aliases are unfolded.")

    def _nested(self, value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], place: Place) -> Any:
        if id(value) in self._within:
            raise refused(place, " is a cycle: this alias stands inside what it refers to.")
        if len(place) > _DEEPEST:
            raise refused(place[:1], f" is nested more than {_DEEPEST} levels deep.")
        self._within.append(id(value))
        copied = self._table(value, place) if isinstance(value, Mapping) else self._list(value, place)
        self._within.pop()
        return copied

    def _table(self, value: Mapping[Any, Any], place: Place) -> dict[str, Any]:
        wrong = next((key for key in value if not isinstance(key, str) or not key.strip()), None)
        if wrong is not None:
            raise refused(place, f" must have texts as keys; found {shown(wrong)}. Put it in quotes.")
        return {_text(key, place): self.of(held, (*place, key)) for key, held in value.items()}

    def _list(self, value: list[Any] | tuple[Any, ...], place: Place) -> list[Any]:
        return [self.of(held, (*place, number)) for number, held in enumerate(value)]


def plain(value: object, place: Place = ()) -> Any:
    """A copy of a value in plain data; tuples become lists, paths texts.

    Raises:
        RefusedError: Something else is in it, it contains itself, or it is too large to be meant.
    """
    return _Copy().of(value, place)


def _text(value: str, place: Place) -> str:
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise refused(place, " holds half a character (a lone surrogate); write it anew.")
    return str(value)


def _number(value: int | float, place: Place) -> int | float:
    if isinstance(value, float) and not math.isfinite(value):
        raise refused(place, f" must be a finite number; found {value}.")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise refused(place, f" must be a number of at most 64 bits; found {shown(value)}.")
    return value
