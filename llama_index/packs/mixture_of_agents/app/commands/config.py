"""`moa config`: mixtures as files: begun, checked, shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app import configuring
from llama_index.packs.mixture_of_agents.app.statuses import reported

_File = Annotated[
    Path | None,
    typer.Argument(help="The file; by default moa.toml, .yaml or .json here.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=_HELP)
    group.command()(init)
    group.command()(check)
    group.command()(show)
    app.add_typer(group, name="config")


_HELP = """Mixtures as files: write one to begin with, check it, see what is in force.

[bold]Examples[/bold]

  moa config init

  moa config check

  moa config show team.yaml --json
"""


def init(
    path: Annotated[
        Path | None, typer.Argument(help="Where to; by default moa.toml here.", show_default=False)
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="toml or yaml; by default by the file's name.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a configuration to begin with: every key, what it means, and an example.

    [bold]Examples[/bold]

      moa config init

      moa config init --format yaml

      moa config init teams/critics.toml

    Exit status: 0 written, 2 refused.
    """
    with reported():
        configuring.begin(path, form, force=force)


def check(file: _File = None) -> None:
    """Say whether a mixture could be asked as it is. No call is made.

    Every value is checked, and for each model its provider, package and key.

    [bold]Examples[/bold]

      moa config check

      moa config check teams/critics.toml && moa ask --config teams/critics.toml "..."

    Exit status: 0 it could, 2 something is wrong or missing.
    """
    with reported():
        configuring.check(file)


def show(
    file: _File = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON document.")] = False,
) -> None:
    """Show every value in force, and whether the file sets it.

    [bold]Examples[/bold]

      moa config show

      moa config show teams/critics.toml --json | jq .values

    Exit status: 0 shown, 2 refused.
    """
    with reported():
        configuring.show(file, as_json=as_json)
