"""A table on a terminal, in any width: texts take several lines where they must, numbers never do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llama_index.packs.mixture_of_agents.app.board import printable

_NARROW = 100
"""Columns of a terminal below which a table's stand closer."""


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: Mapping[str, int]) -> None:
    """Print a table to the terminal.

    Args:
        head: Titles of the columns.
        rows: Their cells, which are rid of what could move a cursor.
        texts: Columns whose cells may stand in several lines, by title, and how narrow these may be.
    """
    # Not at the top: what goes to a pipe does without it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    is_narrow = console.width < _NARROW
    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=is_narrow)
    for title in head:
        lines = title.replace(" ", "\n") if is_narrow else title
        if title in texts:
            table.add_column(lines, overflow="fold", min_width=texts[title])
        else:
            table.add_column(lines, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)
