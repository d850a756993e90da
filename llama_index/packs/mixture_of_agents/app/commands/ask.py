"""`moa ask` asks a mixture; `moa demo` shows one at work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app import asking
from llama_index.packs.mixture_of_agents.app.asking import Order
from llama_index.packs.mixture_of_agents.app.commands.options import Models, Progress
from llama_index.packs.mixture_of_agents.app.statuses import reported


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(ask)
    app.command()(demo)


def ask(
    question: Annotated[
        str | None,
        typer.Argument(help="What to ask; '-' or nothing reads it from standard input.", show_default=False),
    ] = None,
    models: Models = None,
    aggregator: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Who writes the answer; by default the first of --models."),
    ] = None,
    layers: Annotated[
        int, typer.Option(help="Rounds of proposers and the synthesis: 3 is two rounds and the answer.")
    ] = 3,
    strategy: Annotated[
        str, typer.Option(help="Who proposes in a round: model, role, temperature or self.")
    ] = "model",
    temperature: Annotated[float | None, typer.Option(help="Of every call.", show_default=False)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of every call.", show_default=False)] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds for the whole run; 200 with --models, else no limit.", show_default=False),
    ] = None,
    quorum: Annotated[
        int | None, typer.Option(help="Go on when so many of a round have answered.", show_default=False)
    ] = None,
    quorum_grace: Annotated[float, typer.Option(help="Seconds to wait on after that.")] = 0.0,
    layer_timeout: Annotated[
        float | None, typer.Option(help="Seconds for a round.", show_default=False)
    ] = None,
    max_concurrency: Annotated[
        int | None, typer.Option(help="Most calls in flight.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the first proposer; each further one gets the next.", show_default=False),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A file to save the run to; run the same command again to resume it."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole response as one JSON document.")
    ] = False,
    progress: Progress = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The same as --no-progress.")] = False,
) -> None:
    """Ask a mixture of models.

    A model is named provider:model. Keys come from the environment: OPENAI_API_KEY, MISTRAL_API_KEY,
    ANTHROPIC_API_KEY, GOOGLE_API_KEY. A server of your own is named
    openai-like:model@http://host:8000/v1, a local directory sparse-moe:path.

    [bold]Examples[/bold]

      moa ask "Should a small team write its own deployment tool?"

      moa ask "..." --models openai:gpt-4o-mini mistralai:mistral-small-latest --aggregator openai:gpt-4o

      moa ask "..." --models openai:gpt-4o-mini --strategy role --layers 2

      git diff | moa ask --models anthropic:claude-sonnet-4-5 openai:gpt-4o --json | jq .missing

    Exit status: 0 answered, 1 no model answered, 2 refused before any call, 130 interrupted.
    """
    options = {
        "num_layers": layers,
        "strategy": strategy,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "timeout": timeout,
        "quorum": quorum,
        "quorum_grace": quorum_grace,
        "layer_timeout": layer_timeout,
        "max_concurrency": max_concurrency,
    }
    order = Order(
        models=tuple(models or ()),
        aggregator=aggregator,
        options=options,
        seed=seed,
        checkpoint=None if checkpoint is None else str(checkpoint),
        as_json=as_json,
        progress=False if quiet else progress,
    )
    with reported():
        asking.ask(asking.question_from(question, sys.stdin), order)


def demo() -> None:
    """See a mixture at work: three proposers on a local model, two rounds, one answer.

    Needs no key. The first time, it fetches a small model (93 MB) and makes a sparse mixture of
    experts of it (1.5 GB in your cache folder; MOA_CACHE_DIR names another place).

    [bold]Example[/bold]

      moa demo
    """
    with reported():
        asking.demonstrate()
