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


def sentences(look: Look, rows: Sequence[Sequence[Any]]) -> str | None:
    """An expression that matches what may be said; None where there is nothing that could be said.

    Args:
        look: What was looked for.
        rows: What was found, in its order: a group and its number each, or one number alone.
    """
    told = [[_plain(cell) for cell in row] for row in rows if all(cell is not None for cell in row)]
    if not told or len(told) < len(rows):
        return None
    what = re.escape(_spoken(look))
    if look.along is None:
        return rf"(The|In all, the) {what} is {re.escape(told[0][-1])}\."
    if any(len(row) != 2 or not row[0] or len(row[0]) > _LONGEST_NAME for row in told):
        return None
    return _ranked(look, what, told)


def _ranked(look: Look, what: str, told: Sequence[Sequence[str]]) -> str | None:
    number = told[0][1]
    first = [name for name, _ in takewhile(lambda row: row[1] == number, told)]
    if len(first) > _MOST_TOLD:
        return None  # of very many that are equal only some would be named, as if there were no others
    others = [f"{name} with {value}" for name, value in told[len(first) : len(first) + _MOST_TOLD - 1]]
    most = "(least|lowest|smallest)" if look.least else "(largest|highest|greatest)"
    has = "has" if len(first) == 1 else "have"
    lead = rf"{_listed(first)} {has} the {most} {what}(: |, with |, at ){re.escape(number)}\."
    if not others:
        return lead
    return rf"{lead}( (Next come|Then come|After that come) {_listed(others)}\.)?"


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
