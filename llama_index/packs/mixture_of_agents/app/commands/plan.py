"""`moa plan`: what a question would cost, before it is asked."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
