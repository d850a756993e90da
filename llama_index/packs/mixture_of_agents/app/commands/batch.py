"""`moa batch`: many prompts from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app.batch_program import Batch, run
from llama_index.packs.mixture_of_agents.app.commands.keeping import Keeping, Progress, Quiet, watched
from llama_index.packs.mixture_of_agents.app.commands.options import Ending, Limits, Proposing, order_of
from llama_index.packs.mixture_of_agents.app.commands.words import bundled
from llama_index.packs.mixture_of_agents.app.statuses import reported


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(batch)


@bundled
def batch(
    *,
    prompts: Annotated[
        Path, typer.Argument(help="A file of prompts, one a line: JSON, or plain text.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where answers go, one a line.", show_default=False
        ),
    ],
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, help="Prompts in work at one time.")] = 4,
    who: Proposing,
    how: Ending,
    limits: Limits,
    keeping: Keeping,
    progress: Progress = None,
    quiet: Quiet = False,
) -> None:
    """Put many prompts to a mixture.

    A row is {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}, with an "id" of any kind
    if you like, which its answer keeps; or a line of plain text. Answers stand in the order of the prompts,
    with their usage and cost; a row that failed holds its error. A budget is that of one prompt.

    Killed or interrupted, the same command goes on where it was, and asks again nobody who answered. Until
    the batch is complete, its state stands beside the output, in a folder that ends in .journal.

    [bold]Examples[/bold]

      moa batch prompts.jsonl -o answers.jsonl --models openai:gpt-4o-mini mistralai:mistral-small-latest

      moa batch questions.txt -o answers.jsonl --strategy self --finish vote --concurrency 8

    Exit status: 0 all answered, 1 some rows failed, 2 refused, 130 interrupted.
    """
    with reported():
        order = order_of(who, how, limits, keeping)
        status = run(Batch(prompts, output, concurrency, order, watched(progress, quiet)))
    raise typer.Exit(status)
