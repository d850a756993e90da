"""Boards and stages as Rich draws them. Functions of what is to be seen and of the time."""

from __future__ import annotations

from rich.console import Group, OverflowMethod, RenderableType
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from llama_index.packs.mixture_of_agents.app.board import (
    Board,
    Row,
    Stage,
    agreement_note,
    count,
    printable,
)

_MARKS = {
    "answered": ("✓", "+", "green"),
    "missing": ("✗", "x", "red"),
    "waiting": ("↻", "~", "yellow"),
    "thinking": ("▸", ">", "cyan"),
}
"""State -> its mark, the mark where there is only ASCII, its colour."""


def spinner(is_unicode: bool) -> Spinner:
    """What moves while someone thinks."""
    return Spinner("dots" if is_unicode else "line", style="cyan")


def board_picture(
    board: Board, now: float, moving: Spinner | None, width: int, *, is_unicode: bool = True
) -> RenderableType:
    """A layer: its title, and a line for each model that was asked.

    Args:
        board: What to draw.
        now: Monotonic seconds.
        moving: Drawn before those who think; None when the picture is to stand.
        width: Columns to fill.
        is_unicode: Whether the terminal has more than ASCII.
    """
    table = Table.grid(padding=(0, 1))
    table.width = width
    table.add_column(width=3, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in board.rows:
        mark = moving if row.state == "thinking" and moving is not None else _mark(row.state, is_unicode)
        table.add_row(
            mark,
            Text(printable(row.name), style="bold"),
            *_measures(row, now),
            _note(row, board, moving is None),
        )
    gate = [Text(f"    {n}", style="dim", no_wrap=True, overflow="ellipsis") for n in board.gate]
    agreement = [Text(f"    {agreement_note(board)}", style="green")] if board.agreement else []
    return Group(Text(board.title, style="bold"), *gate, table, *agreement)


def stage_picture(
    stage: Stage, now: float, moving: Spinner | None, *, is_unicode: bool = True
) -> RenderableType:
    """A stage of preparation; done when nothing moves."""
    line = Table.grid(padding=(0, 1))
    overflows: tuple[OverflowMethod, ...] = ("crop", "ellipsis", "crop", "ellipsis")
    for overflow in overflows:
        line.add_column(no_wrap=True, overflow=overflow)
    seconds = Text(f"{now - stage.since:.1f} s", style="dim")
    mark = moving if moving is not None else _mark("answered" if stage.is_done else "thinking", is_unicode)
    detail = "" if moving is None else stage.detail
    line.add_row(mark, Text(printable(stage.title)), seconds, Text(printable(detail), style="dim"))
    return line


def _mark(state: str, is_unicode: bool) -> Text:
    mark, plain, colour = _MARKS[state]
    return Text(mark if is_unicode else plain, style=colour)


def _measures(row: Row, now: float) -> tuple[Text, Text]:
    seconds = now - row.since if row.seconds is None else row.seconds
    tokens = "" if row.tokens is None else count(row.tokens, "token")
    return Text(f"{seconds:.1f} s"), Text(tokens)


def _note(row: Row, board: Board, is_still: bool) -> Text:
    if row.state == "thinking":
        return Text(_doing(board, is_still), style="dim")
    colour = {"missing": "red", "waiting": "yellow"}.get(row.state, "dim")
    return Text(" ".join(row.note.split()), style=colour)


def _doing(board: Board, is_still: bool) -> str:
    writes = board.is_finish and board.task != "rank"
    if is_still:
        return "writes:" if writes else "was interrupted"
    if board.task in _TASKS:
        return _TASKS[board.task]
    if board.layer == 1:
        return "thinks"
    return "reads the answers so far" if writes else "reads them and thinks"


_TASKS = {"roles": "writes roles", "condense": "condenses them", "rank": "compares them"}
