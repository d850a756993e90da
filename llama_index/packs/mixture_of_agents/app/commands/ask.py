"""`moa ask` asks a mixture; `moa demo` shows one at work."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app import asking
from llama_index.packs.mixture_of_agents.app.commands.keeping import OUTPUT, Keeping, Progress, Quiet, watched
from llama_index.packs.mixture_of_agents.app.commands.options import (
    Asking,
    Ending,
    Limits,
    Proposing,
    order_of,
)
from llama_index.packs.mixture_of_agents.app.commands.words import bundled
from llama_index.packs.mixture_of_agents.app.statuses import reported


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(ask)
    app.command()(demo)


@bundled
def ask(
    *,
    what: Asking,
    who: Proposing,
    how: Ending,
    limits: Limits,
    keeping: Keeping,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Save the run there; the same command again resumes it.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the whole response as one JSON document.", rich_help_panel=OUTPUT),
    ] = False,
    progress: Progress = None,
    quiet: Quiet = False,
) -> None:
    """Ask a mixture of models.

    A model is named provider:model, or by its name alone where that tells its provider (gpt-4o,
    mistral-small). Keys come from the environment or a .env file here, never from the command line:
    OPENAI_API_KEY, MISTRAL_API_KEY, ANTHROPIC_API_KEY, GOOGLE_API_KEY. A server of your own is named
    openai-like:model@http://host:8000/v1, a local directory sparse-moe:path.

    Lists are written with spaces, with commas, or by repeating the option. Options may be written with _
    for -. Traces of what was asked and answered go to ./logs/moa; --no-trace leaves them out.

    [bold]Examples[/bold]

      moa ask "Should a small team write its own deployment tool?"

      moa ask "..." --models openai:gpt-4o-mini mistralai:mistral-small-latest --aggregator openai:gpt-4o

      moa ask "..." --models openai:gpt-4o-mini --strategy role --layers 2

      moa ask "..." --models openai:gpt-4o-mini --strategy self --finish vote --extract number

      moa ask "..." --models openai:gpt-4o-mini --temperatures 0.2..1.0 --max-tokens 500 --budget-usd 0.05

      moa ask "..." --models gpt-4o-mini gpt-4o --gate gate/ --layers 2 --finish vote

      moa ask "What is wrong in these?" -f main.py test_main.py

      git diff | moa ask --models anthropic:claude-sonnet-4-5 openai:gpt-4o --json | jq .missing

    Exit status: 0 answered, 1 no model answered, 2 refused before any call, 130 interrupted.
    """
    with reported():
        order = replace(
            order_of(who, how, limits, keeping),
            checkpoint=None if checkpoint is None else str(checkpoint),
            as_json=as_json,
            progress=watched(progress, quiet),
        )
        asking.ask(what.text(sys.stdin), order)


def demo() -> None:
    """See a mixture at work: three proposers on a local model, two rounds, one answer.

    Needs no key. The first time, it fetches a small model (93 MB) and makes a sparse mixture of
    experts of it (1.5 GB in your cache folder; MOA_CACHE_DIR names another place).

    [bold]Example[/bold]

      moa demo
    """
    with reported():
        asking.demonstrate()
