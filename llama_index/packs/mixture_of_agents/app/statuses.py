"""How errors leave the program: a message on standard error and an exit status, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureError

FAILED = 1
"""The mixture ran and had no answer."""
REFUSED = 2
"""Nothing was asked of any model: the input cannot work. Wrong usage has the same status."""
INTERRUPTED = 130
"""Ctrl-C, as shells count it."""


def exit_status(error: BaseException) -> int | None:
    """The status an error ends the program with; None for errors nobody foresaw."""
    if isinstance(error, ConfigurationError):
        return REFUSED
    if isinstance(error, MixtureError):
        return FAILED
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else None


@contextmanager
def reported() -> Iterator[None]:
    """Turn what is raised inside into a message and a status; let a fault of ours show its traceback."""
    try:
        yield
    except (MixtureError, KeyboardInterrupt) as error:
        note("interrupted" if isinstance(error, KeyboardInterrupt) else str(error))
        raise typer.Exit(exit_status(error) or FAILED) from error


def note(message: str) -> None:
    """Say something on standard error, where it stays out of pipes."""
    sys.stderr.write(f"moa: {message}\n")
    sys.stderr.flush()
