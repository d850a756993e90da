"""`moa memory`: what agents keep between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app.commands.keeping import AsJson
from llama_index.packs.mixture_of_agents.app.statuses import reported

_group = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})

_File = Annotated[Path, typer.Argument(help="The file that moa crew --memory keeps.")]
_Agent = Annotated[str | None, typer.Option(metavar="NAME", help="Of one agent.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    _group.command("ls")(list_agents)
    _group.command()(show)
    _group.command()(forget)
    app.add_typer(_group, name="memory", help="Look at what agents keep between runs, and have it forgotten.")


def list_agents(file: _File) -> None:
    """List the agents that have notes.

    [bold]Example[/bold]

      moa memory ls notes.db

    Exit status: 0 listed, 2 refused.
    """
    with reported():
        # Not at the top: agents are for those who have any.
        from llama_index.packs.mixture_of_agents.app import remembering

        remembering.list_agents(file)


def show(
    file: _File,
    agent: _Agent = None,
    as_json: AsJson = False,
) -> None:
    """Show notes: number, agent, kind, day, text, parted by tabs.

    [bold]Examples[/bold]

      moa memory show notes.db

      moa memory show notes.db --agent data --json | jq '.[].text'

    Exit status: 0 shown, 2 refused.
    """
    with reported():
        from llama_index.packs.mixture_of_agents.app import remembering

        remembering.show(file, agent, as_json)


def forget(
    file: _File,
    which: Annotated[list[str], typer.Argument(help="Numbers of notes; or words, which a note has all of.")],
    agent: _Agent = None,
) -> None:
    """Forget notes for good: the file and its index hold nothing of them afterwards.

    [bold]Examples[/bold]

      moa memory forget notes.db 3 5

      moa memory forget notes.db thousands of euros --agent data

    Exit status: 0 done, also where there was no such note; 2 refused.
    """
    with reported():
        from llama_index.packs.mixture_of_agents.app import remembering

        remembering.forget(file, which, agent)
