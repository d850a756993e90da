"""`moa trace`: what runs wrote down of themselves."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
