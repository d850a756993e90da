"""What a small model may say of what was found: a regular expression of sentences that are true of it.

It knows looks and their rows, and neither models nor where rows come from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from llama_index.packs.mixture_of_agents.app.board import printable
from llama_index.packs.mixture_of_agents.app.looking import Look

_MOST_TOLD = 3
_LONGEST_NAME = 40
_LONGEST_NUMBER = 20
_SENTENCE = re.compile(r"\w{3,}[.!?]\s")
"""In a name: it would read as a sentence of its own, and not as "St. Gall"."""


def sentences(look: Look, rows: Sequence[Sequence[Any]]) -> str | None:
    """An expression that matches what may be said; None where there is nothing that could be said.

    Args:
        look: What was looked for.
        rows: What was found, in its order: a group and its number each, or one number alone.
    """
    told = [[_plain(cell) for cell in row] for row in rows if all(cell is not None for cell in row)]
    if not told or len(told) < len(rows) or any(len(row[-1]) > _LONGEST_NUMBER for row in told):
        return None
    if look.is_rounded and any(row[-1] in ("0", "-0") for row in told):
        return None  # it may have been more than nothing
    if look.measured is not None and len(look.measured) > _LONGEST_NAME:
        return None
    what = re.escape(_spoken(look))
    if look.along is None:
        return rf"(The|In all, the) {what} is {re.escape(told[0][-1])}\."
    names = [row[0] for row in told]
    if len(set(names)) < len(names) or not all(map(_can_be_said, names)):
        return None
    return _ranked(look, what, told)


def _can_be_said(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_NAME and _SENTENCE.search(name) is None


def _ranked(look: Look, what: str, told: Sequence[Sequence[str]]) -> str | None:
    number = told[0][1]
    first = [name for name, _ in takewhile(lambda row: row[1] == number, told)]
    if len(first) > _MOST_TOLD or (look.is_rounded and len(first) > 1):
        # Of very many only some would be named, as if there were no others; and what is rounded may differ.
        return None
    others = _next(told[len(first) :])
    most = "(least|lowest|smallest)" if look.least else "(largest|highest|greatest)"
    has = "has" if len(first) == 1 else "have"
    lead = rf"{_listed(first)} {has} the {most} {what}(: |, with |, at ){re.escape(number)}\."
    if not others:
        return lead
    come = "comes" if len(others) == 1 else "come"
    return rf"{lead}( (Next|Then|After that) {come} {_listed(others)}\.)?"


def _next(told: Sequence[Sequence[str]]) -> list[str]:
    """Those behind the first, as long as no one is left out who is equal to them."""
    there = list(told[: _MOST_TOLD - 1])
    while there and len(told) > len(there) and told[len(there)][1] == there[-1][1]:
        there.pop()
    return [f"{name} with {number}" for name, number in there]


def _listed(names: Sequence[str]) -> str:
    escaped = [re.escape(name) for name in names]
    return escaped[0] if len(escaped) == 1 else rf"{', '.join(escaped[:-1])} and {escaped[-1]}"


def _spoken(look: Look) -> str:
    if look.measured is None:
        return "number of rows"
    return f"{'average' if look.how == 'avg' else 'sum'} of {_plain(look.measured)}"


def _plain(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return " ".join(printable(str(cell)).split())
