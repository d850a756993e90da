"""`moa trace`: what runs wrote down of themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app import traces
from llama_index.packs.mixture_of_agents.app.commands.keeping import AsJson, RunNamed, RunOfTrace
from llama_index.packs.mixture_of_agents.app.statuses import reported

_group = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})

_Where = Annotated[
    str | None,
    typer.Argument(
        help="A trace, or a folder of them; by default ./logs/moa, or MOA_TRACE_DIR.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    _group.command("ls")(ls)
    _group.command()(show)
    _group.command()(stats)
    app.add_typer(_group, name="trace", help="See what runs wrote down of themselves.")


def ls(where: _Where = None, as_json: AsJson = False) -> None:
    """List runs: when, which, how they ended, what they took, what was asked.

    In a pipe the columns are parted by tabs.

    [bold]Examples[/bold]

      moa trace ls

      moa trace ls logs/moa --json | jq '.[] | select(.status != "answered")'

    Exit status: 0 listed, 2 no trace, or an unreadable one.
    """
    with reported():
        traces.list_runs(where, as_json)


def show(
    run: RunNamed = None,
    run_id: RunOfTrace = None,
    as_json: AsJson = False,
) -> None:
    """Tell one run: the question, each round's proposals, decisions, who is missing, what it took.

    [bold]Examples[/bold]

      moa trace show

      moa trace show 3f2a

      moa trace show batch.jsonl --run 3f2a --json

    Exit status: 0 shown, 2 no such run, or an unreadable trace.
    """
    with reported():
        traces.show_run(run, run_id, as_json)


def stats(where: _Where = None, as_json: AsJson = False) -> None:
    """Count what many runs took: calls, failures, tokens, dollars, latency for each model; votes.

    A dollar amount is the sum of what is known; answers without a known price are counted beside it.

    [bold]Example[/bold]

      moa trace stats logs/moa

    Exit status: 0 shown, 2 no trace, or an unreadable one.
    """
    with reported():
        traces.show_stats(where, as_json)
