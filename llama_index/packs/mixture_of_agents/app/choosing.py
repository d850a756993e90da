"""Which view a run gets, by what it is written to and what was asked for. Draws nothing itself."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Literal

from llama_index.packs.mixture_of_agents.app.plain import Lines
from llama_index.packs.mixture_of_agents.app.view import View

Kind = Literal["screen", "lines", "silence"]


def view_kind(*, is_terminal: bool, is_terminal_err: bool, as_json: bool, progress: bool | None) -> Kind:
    """Decide how a run is watched.

    Args:
        is_terminal: Whether standard output is a terminal that can move its cursor.
        is_terminal_err: Whether standard error is a terminal.
        as_json: Whether standard output is for JSON alone.
        progress: What the caller wants; None leaves it to the terminals.
    """
    if progress is False:
        return "silence"
    if is_terminal and not as_json:
        return "screen"
    return "lines" if progress or is_terminal_err else "silence"


def kind_here(*, as_json: bool, progress: bool | None) -> Kind:
    """Decide it for this process's standard streams."""
    return view_kind(
        is_terminal=sys.stdout.isatty() and moves_cursor(os.environ),
        is_terminal_err=sys.stderr.isatty(),
        as_json=as_json,
        progress=progress,
    )


def view_for(*, as_json: bool = False, progress: bool | None = None, lines_to_output: bool = False) -> View:
    """The view for this process's standard streams.

    Args:
        as_json: Whether standard output is for JSON alone.
        progress: True for progress wherever output goes, False for none; None for terminals only.
        lines_to_output: Write plain lines to standard output, not to standard error.
    """
    kind = kind_here(as_json=as_json, progress=progress)
    if kind == "lines":
        return Lines(sys.stdout if lines_to_output else sys.stderr, time.monotonic)
    if kind == "silence":
        return View()
    # Not at the top: a run that writes to a pipe needs no Rich.
    from rich.console import Console

    from llama_index.packs.mixture_of_agents.app.screen import Screen

    return Screen(Console(highlight=False))


def moves_cursor(environment: Mapping[str, str]) -> bool:
    """Whether the terminal named there can redraw a line."""
    return environment.get("TERM", "").lower() not in ("dumb", "unknown")
