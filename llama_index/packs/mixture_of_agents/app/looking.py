"""What a model too small to choose looks at in data, and what its words are held to.

One number for each group of rows; columns are chosen by the words they share with the question. It reads no
data and asks no model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llama_index.packs.mixture_of_agents.agents import Plan, Task
from llama_index.packs.mixture_of_agents.agents.tools.cleaning import Column
from llama_index.packs.mixture_of_agents.agents.tools.csv_tables import quoted
from llama_index.packs.mixture_of_agents.answers.numerals import numbers

_NUMERIC = re.compile(r"INT|REAL|FLOA|DOUB|NUM|DEC")
_WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")
_NOT_ADDED = {"id", "year", "quarter", "month", "week", "day", "hour", "code", "zip"}
"""Numbers that tell rows apart, or say when."""
_MEANS = {"average", "mean", "typical"}
_COUNTS = {"count", "many", "often"}
_LEAST = {"lowest", "least", "fewest", "smallest", "worst", "minimum", "bottom", "cheapest", "low"}
MOST_GROUPS = 12
_PLACES = 4
"""Of a number; sums of decimals have a dozen, most of which are errors."""


@dataclass(frozen=True)
class Look:
    """One number for each group of rows, the largest or the least first.

    Attributes:
        table: Where.
        along: The column that makes the groups; None for all rows together.
        measured: The column of numbers; None to count rows.
        how: "sum", "avg" or "count".
        least: The least first.
        is_rounded: The numbers may have places.
    """

    table: str
    along: str | None
    measured: str | None
    how: str
    least: bool = False
    is_rounded: bool = False

    @property
    def name(self) -> str:
        """What the number is."""
        name = "count" if self.measured is None else f"{self.how} of {self.measured}"
        return f"{name} in all" if name == self.along else name

    @property
    def first(self) -> str:
        """Which groups come first."""
        return "least" if self.least else "largest"

    @property
    def sql(self) -> str:
        """It as one SELECT."""
        number = "count(*)"
        if self.measured is not None:
            number = f"{self.how}({quoted(self.measured)})"
            number = f"round({number}, {_PLACES})" if self.is_rounded else number
        asked, place = f"{number} AS {quoted(self.name)}", quoted(self.table)
        if self.along is None:
            return f"SELECT {asked} FROM {place}"
        group = quoted(self.along)
        order = "ASC" if self.least else "DESC"
        return f"SELECT {group}, {asked} FROM {place} GROUP BY 1 ORDER BY 2 {order} LIMIT {MOST_GROUPS}"

    @property
    def groups_sql(self) -> str:
        """How many groups there are, as one SELECT."""
        group = quoted(self.along or "")
        # Without a number of its own, which words could rest on.
        named = quoted(f"groups in all, of which only the {self.first} were looked at")
        return f"SELECT count(*) AS {named} FROM (SELECT 1 FROM {quoted(self.table)} GROUP BY {group})"

    @property
    def texts_sql(self) -> str | None:
        """How many texts stand among the numbers, as one SELECT: each counts as 0. None for no numbers."""
        if self.measured is None:
            return None
        place, column = quoted(self.table), quoted(self.measured)
        return f"SELECT count(*) FROM {place} WHERE typeof({column}) = 'text'"


def look_for(question: str, tables: Mapping[str, Sequence[Column]]) -> Look | None:
    """Where to look; None where there is no table with columns.

    Args:
        question: What is asked.
        tables: The columns of each table.
    """
    asked = _words(question)
    there = {table: columns for table, columns in tables.items() if columns}
    if not there:
        return None

    def fits(table: str) -> int:
        named = " ".join([table, *(column.name for column in there[table])])
        return len(asked & _words(named))

    table = max(there, key=fits)  # of equals, the first
    added = [column.name for column in there[table] if _is_added(column)]
    kinds = [column.name for column in there[table] if column.name not in added]
    how = "count" if asked & _COUNTS else "avg" if asked & _MEANS else "sum"
    measured = None if how == "count" else _nearest(asked, added)
    whole = {column.name for column in there[table] if "INT" in column.type}
    rounded = measured is not None and (how == "avg" or measured not in whole)
    return Look(table, _nearest(asked, kinds), measured, how, bool(asked & _LEAST), rounded)


def _is_added(column: Column) -> bool:
    return bool(_NUMERIC.search(column.type)) and not _words(column.name) & _NOT_ADDED


def astray(text: str, sources: Sequence[str]) -> str:
    """Why words cannot stand on what was found: their numbers are others, or there are none.

    Args:
        text: What was said.
        sources: What it rests on.
    """
    found, said = set(_amounts("\n".join(sources))), _amounts(text)
    if found and not said:
        return "it says none of the numbers that were found"
    strange = [number for number in said if number not in found]
    return f"it says {', '.join(strange[:3])}, which nothing that was found does" if strange else ""


def _amounts(text: str) -> list[str]:
    """Numbers in one form each; "fell by 3" and -3 are the same amount."""
    return [number.removeprefix("-") for number in numbers(text)]


def plan_for_each(question: str, agents: Sequence[str]) -> Plan:
    """The question itself as a task for each specialist; a model that small plans nothing that helps.

    None waits for another: what each looks at is settled beforehand.

    Args:
        question: What is asked.
        agents: The specialists.
    """
    tasks = [
        Task(id=f"t{number}", agent=name, instructions=question) for number, name in enumerate(agents, 1)
    ]
    return Plan(tasks=tasks, notes=["the embedded model is too small to plan; --planner names another"])


def _nearest(asked: set[str], names: Sequence[str]) -> str | None:
    return max(names, key=lambda name: len(asked & _words(name)), default=None)


def _words(text: str) -> set[str]:
    return {word.casefold().removesuffix("s") for word in _WORD.findall(text)}
