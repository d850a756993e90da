"""The commands of `moa`. Each module holds the words and options of one group; `run` is the program.

ask       ask a mixture: models you name, or the embedded local one; and demo, with a question of ours
chat      a conversation with a mixture
crew      specialists with tools look into data
memory    what agents keep between runs
batch     many prompts from a file
plan      what a question would cost, before it is asked
doctor    what is missing before models can be asked
trace     what runs wrote down of themselves
replay    a recorded run once more, with something changed
config    mixtures as files
gate      who is worth asking, learned from recorded answers
local     models on this machine: upcycle, experts

A module's `register` adds its commands. They fetch what is asked for and hand it on; work is done elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from llama_index.packs.mixture_of_agents.app.commands import (
    ask,
    batch,
    chat,
    config,
    crew,
    doctor,
    gate,
    local,
    memory,
    plan,
    replay,
    trace,
)
from llama_index.packs.mixture_of_agents.app.commands.words import hear

_DISTRIBUTION = "llama-index-packs-mixture-of-agents"
_GROUPS = (ask, chat, crew, memory, batch, plan, doctor, trace, replay, config, gate, local)
"""In the order of the help."""

app = typer.Typer(
    name="moa",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(words: Sequence[str]) -> None:
    """Run the command line and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        # A character the terminal lacks must not lose an answer that took minutes.
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    app(args=list(words), prog_name="moa")


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"moa {version(_DISTRIBUTION)}")
        except PackageNotFoundError:
            typer.echo("moa (not installed: run from its sources)")
        raise typer.Exit


@app.callback()
def _moa(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A mixture of agents: several models propose, one writes the answer.

    Start with [bold]moa demo[/bold]: it needs no key. Then ask a question of your own with
    [bold]moa ask[/bold]; `moa ask --help` shows how to name models.

    Exit status of every command: 0 done, 1 something had no answer, 2 refused, 130 interrupted.
    """


for _group in _GROUPS:
    _group.register(app)
hear(app)
