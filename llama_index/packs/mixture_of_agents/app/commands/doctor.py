"""`moa doctor`: what is missing before models can be asked."""

from __future__ import annotations

from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app.commands.keeping import AsJson
from llama_index.packs.mixture_of_agents.app.doctor import Visit, check_up
from llama_index.packs.mixture_of_agents.app.statuses import FAILED, reported


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(doctor)


def doctor(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="What to look at; without it, a small model of each provider whose key is set.",
            show_default=False,
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Look, but ask no model.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for each answer.")] = 20.0,
    as_json: AsJson = False,
) -> None:
    """See what is installed, which keys are set, and whether models answer.

    Each model is asked for one token, all of them at once. Of a key, its variable's name is shown and
    where it is set, never its value. Keys come from the environment, or from a .env file in the
    current folder.

    [bold]Examples[/bold]

      moa doctor

      moa doctor openai:gpt-4o-mini claude-3-haiku ollama:qwen3

      moa doctor --offline --json

    Exit status: 0 all is well, 1 a model has a problem, 2 refused, 130 interrupted.
    """
    with reported():
        is_well = check_up(Visit(tuple(models or ()), offline, timeout, as_json))
    if not is_well:
        raise typer.Exit(FAILED)
