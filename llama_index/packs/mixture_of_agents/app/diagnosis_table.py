"""A diagnosis as a table, drawn with Rich. It decides nothing and prints nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from llama_index.packs.mixture_of_agents.app.board import printable
from llama_index.packs.mixture_of_agents.app.diagnosis import Examination

_MARKS = {True: ("✓", "+", "green"), False: ("✗", "x", "red")}
"""Whether all is well -> its mark, the mark where there is only ASCII, its colour."""


def table_of(models: Sequence[Examination], *, is_unicode: bool = True) -> Table:
    """A row for each model: whether it is well, its package, its key, its answer.

    Args:
        models: What was found.
        is_unicode: Whether the terminal has more than ASCII.
    """
    table = Table("", box=box.HEAVY_HEAD if is_unicode else box.ASCII)
    for title in ("Model", "Package", "Key", "Answer"):
        table.add_column(title, overflow="fold")
    for one in models:
        mark, plain, colour = _MARKS[not one.problem]
        texts = (one.model, one.package_text, one.key_text, one.answer_text)
        cells = [Text(printable(text)) for text in texts]
        table.add_row(Text(mark if is_unicode else plain, style=colour), *cells)
    return table
