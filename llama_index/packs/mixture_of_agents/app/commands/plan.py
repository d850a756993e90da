"""`moa plan`: what a question would cost, before it is asked."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app.commands.keeping import OUTPUT
from llama_index.packs.mixture_of_agents.app.commands.options import (
    Asking,
    Ending,
    Limits,
    Proposing,
    order_of,
)
from llama_index.packs.mixture_of_agents.app.commands.words import bundled
from llama_index.packs.mixture_of_agents.app.statuses import reported

_GUESS = "What to go by"


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(plan)


@bundled
def plan(
    *,
    what: Asking,
    who: Proposing,
    how: Ending,
    limits: Limits,
    answer_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How long answers are taken to be; 400 unless said, never longer than --max-tokens.",
            show_default=False,
            rich_help_panel=_GUESS,
        ),
    ] = None,
    tokens_per_second: Annotated[
        float | None,
        typer.Option(metavar="N", help="How fast models write.", show_default=False, rich_help_panel=_GUESS),
    ] = None,
    latency: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long a call takes; goes before --tokens-per-second.",
            show_default=False,
            rich_help_panel=_GUESS,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """See what a question would cost before it is asked: calls, tokens, US dollars, longest chain.

    It takes what `moa ask` takes, calls no model and prepares none. The calls are exact unless one fails or
    a round is skipped; with a gate they are the most there can be, and it says what the least is. Tokens are
    counted in the real prompts, with answers of the length given. A price that is not known is "unknown",
    never 0. With a budget, it also says whether that would refuse the question.

    [bold]Examples[/bold]

      moa plan "Why is the sky blue?" --models gpt-4o-mini mistral-small --aggregator gpt-4o

      moa plan -f question.txt --config moa.toml --answer-tokens 250 --tokens-per-second 60

      moa plan "..." --models gpt-4o-mini --max-tokens 500 --budget-usd 0.01 --json | jq .most_usd

    Exit status: 0 told, 2 refused: the input cannot work, or the budget is too small for the question.
    """
    # Not at the top: prices and rich are for those who plan.
    from llama_index.packs.mixture_of_agents.app import planning

    with reported():
        order = replace(order_of(who, how, limits), as_json=as_json)
        guess = planning.Guess(answer_tokens, tokens_per_second, latency)
        planning.plan(what.text(sys.stdin), order, guess)
