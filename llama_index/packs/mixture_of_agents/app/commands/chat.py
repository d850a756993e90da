"""`moa chat`: a conversation with a mixture."""

from __future__ import annotations

from dataclasses import replace

import typer

from llama_index.packs.mixture_of_agents.app import chatting
from llama_index.packs.mixture_of_agents.app.commands.keeping import Keeping, Progress, Quiet, watched
from llama_index.packs.mixture_of_agents.app.commands.options import Ending, Limits, Proposing, order_of
from llama_index.packs.mixture_of_agents.app.commands.words import bundled
from llama_index.packs.mixture_of_agents.app.statuses import reported


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(chat)


@bundled
def chat(
    *,
    who: Proposing,
    how: Ending,
    limits: Limits,
    keeping: Keeping,
    progress: Progress = None,
    quiet: Quiet = False,
) -> None:
    """Talk with a mixture of models, turn by turn.

    Each question goes to the mixture with all that was said before. /proposals looks behind the answer,
    /usage tells what it cost, /help lists the rest. Ctrl-C cancels the answer being made, and nothing else;
    Ctrl-D leaves. From a pipe, each line is a question. Limits and budgets are those of one question.

    [bold]Examples[/bold]

      moa chat

      moa chat --models openai:gpt-4o-mini mistralai:mistral-small-latest --aggregator openai:gpt-4o

      moa chat --config moa.toml < questions.txt

    Exit status: 0 left; from a pipe 1 if a question had no answer; 2 refused.
    """
    with reported():
        order = replace(order_of(who, how, limits, keeping), progress=watched(progress, quiet))
        status = chatting.chat(order)
    raise typer.Exit(status)
