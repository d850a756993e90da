"""Options of several commands, each said once: what is shown of a run, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app.recorded import FOLDER_VARIABLE
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

OUTPUT = "Output"

_output = partial(typer.Option, show_default=False, rich_help_panel=OUTPUT)

Progress = Annotated[
    bool | None,
    _output(
        "--progress/--no-progress",
        help="Show what goes on. By default on terminals only; as plain lines on stderr when the answer "
        "goes to a pipe.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="The same as --no-progress.", rich_help_panel=OUTPUT)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RunNamed = Annotated[
    str | None,
    typer.Argument(
        help="A trace; or a run's id, or its beginning. By default the newest run.", show_default=False
    ),
]
RunOfTrace = Annotated[
    str | None, typer.Option("--run", metavar="ID", help="Which run of the trace.", show_default=False)
]


@dataclass(frozen=True)
class Tracing:
    """What runs write down of themselves."""

    trace: Annotated[
        bool | None,
        _output(
            "--trace/--no-trace",
            help="Write down the run as it goes, for moa trace; done unless refused.",
        ),
    ] = None
    trace_dir: Annotated[
        Path | None,
        _output(
            metavar="FOLDER",
            envvar=FOLDER_VARIABLE,
            help="Where to; ./logs/moa unless said.",
            show_envvar=True,
        ),
    ] = None
    redact: Annotated[
        bool,
        typer.Option("--redact", help="Leave texts out of the trace.", rich_help_panel=OUTPUT),
    ] = False


@dataclass(frozen=True)
class Keeping(Tracing):
    """What is kept of runs."""

    cache: Annotated[
        Path | None,
        _output(metavar="PATH", help="Keep answers there, and ask nobody twice the same."),
    ] = None


def watched(progress: bool | None, quiet: bool) -> bool | None:
    """Whether a run is shown; None leaves it to the terminals.

    Raises:
        ConfigurationError: Both are asked for.
    """
    if quiet and progress:
        raise ConfigurationError("--progress and --quiet say different things; give one of them.")
    return False if quiet else progress
