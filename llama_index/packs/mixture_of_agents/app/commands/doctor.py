"""`moa doctor`: what is missing before models can be asked."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
