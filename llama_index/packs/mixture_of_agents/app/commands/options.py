"""Options that several commands take, each said once."""

from __future__ import annotations

from typing import Annotated

import typer

Models = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL...",
        help="Who proposes, one or more. Without it: three roles on the embedded local model.",
        show_default=False,
    ),
]
Progress = Annotated[
    bool | None,
    typer.Option(
        "--progress/--no-progress",
        help="Show what goes on. By default on terminals only; as plain lines on stderr when the answer "
        "goes to a pipe.",
        show_default=False,
    ),
]
