"""`moa replay`: a recorded run once more, with something changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app import rerunning
from llama_index.packs.mixture_of_agents.app.commands.keeping import RunOfTrace
from llama_index.packs.mixture_of_agents.app.statuses import reported


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(replay)


def replay(
    trace: Annotated[
        str,
        typer.Argument(
            help="A trace; or the id of a run in ./logs/moa, or its beginning.", show_default=False
        ),
    ],
    run_id: RunOfTrace = None,
    swap: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="Another model in the place of a proposer, of the aggregator or of the role_writer.",
            show_default=False,
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave a proposer out.", show_default=False),
    ] = None,
    prompt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ask what is in this file instead.", show_default=False),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Nothing may go out.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole response as one JSON document.")
    ] = False,
) -> None:
    """Run a recorded run again. Only what a change touches is asked anew; the rest is in the record.

    Standard error tells how many calls were answered from the record, and how many
    went out. Without a change, none goes out.

    [bold]Examples[/bold]

      moa replay 3f2a

      moa replay logs/moa/run.jsonl --swap aggregator=openai:gpt-4o

      moa replay logs/moa/run.jsonl --drop gpt-4o-mini --drop mistral-small-latest

      moa replay logs/moa/run.jsonl --prompt new.txt

    Exit status: 0 answered, 1 no model answered, 2 refused, 130 interrupted.
    """
    with reported():
        rerunning.rerun(
            trace,
            run_id,
            rerunning.Wanted(tuple(swap or ()), tuple(drop or ()), prompt, strict, as_json),
        )
