"""`moa crew`: specialists look into data."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app.commands.keeping import OUTPUT, Progress, Quiet, Tracing, watched
from llama_index.packs.mixture_of_agents.app.commands.options import LIMITS, Asking
from llama_index.packs.mixture_of_agents.app.commands.words import bundled
from llama_index.packs.mixture_of_agents.app.statuses import reported

_WHO = "Who works"
_PLAN = "The plan"
_option = partial(typer.Option, show_default=False)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(crew)


@bundled
def crew(
    *,
    what: Asking,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="A table file (.csv, .tsv, .jsonl, .parquet), a folder of such, or a SQLite file.",
        ),
    ],
    models: Annotated[
        list[str] | None,
        _option(
            metavar="MODEL...",
            help="Who works; several are dealt to the specialists in turn. Without it: the embedded local "
            "model.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    planner: Annotated[
        str | None,
        _option(metavar="MODEL", help="Who plans; by default the first of --models.", rich_help_panel=_WHO),
    ] = None,
    aggregator: Annotated[
        str | None,
        _option(metavar="MODEL", help="Who writes the answer; by default who plans.", rich_help_panel=_WHO),
    ] = None,
    memory: Annotated[
        Path | None,
        _option(
            metavar="FILE",
            help="Notes that the specialists keep between runs; see moa memory.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    plan_only: Annotated[
        bool,
        _option("--plan-only", help="Make the plan, and carry out nothing.", rich_help_panel=_PLAN),
    ] = False,
    plan: Annotated[
        Path | None,
        _option(
            metavar="FILE",
            help="Carry out this plan, JSON as --plan-only --json prints it.",
            rich_help_panel=_PLAN,
        ),
    ] = None,
    yes: Annotated[
        bool,
        _option("--yes", "-y", help="Ask nothing: go on with the plan, save charts.", rich_help_panel=_PLAN),
    ] = False,
    timeout: Annotated[
        float | None,
        _option(
            metavar="SECONDS",
            help="For the whole run. No limit on the embedded model or where you are asked, else 600.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        _option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Where charts and cleaned tables may be saved; without it, none is.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        _option("--json", help="Print the whole response as one JSON document.", rich_help_panel=OUTPUT),
    ] = False,
    kept: Tracing,
    progress: Progress = None,
    quiet: Quiet = False,
) -> None:
    """Let a crew look into data: a planner, three specialists with tools, an answer.

    The planner splits the question into tasks for specialists: data (SQL that only reads), analysis (table
    files) and visualisation (charts). On a terminal you see the plan first, and say yes, no, or change it.
    In a pipe nobody is asked: the plan is carried out, and nothing is saved unless you say --yes.

    Files are only read. Charts and cleaned tables become new files in --out, each after you said yes.

    The embedded local model is too small to plan or to choose tools: it looks where the words of the question
    point, and says what was found in sentences it is held to. What it says of files without SQL (.parquet,
    .jsonl) can be wrong; --progress shows what was found. Charts need --out.

    What the crew did goes to a trace in ./logs/moa, which moa trace show tells; --no-trace leaves it out.

    [bold]Examples[/bold]

      moa crew "Which region sells most?" --data sales.csv

      moa crew "What fell last year, and where?" --data shop.sqlite --models openai:gpt-4o-mini --out charts

      moa crew "..." --data tables/ --models openai:gpt-4o-mini --planner openai:gpt-4o --memory notes.db

      moa crew "..." --data sales.csv --plan-only --json > plan.json

      moa crew "..." --data sales.csv --plan plan.json --yes --out charts --json | jq .results

    Exit status: 0 answered, 1 no answer, or you said no to the plan, 2 refused before any call, 130
    interrupted.
    """
    with reported():
        # Not at the top: agents are for those who ask a crew.
        from llama_index.packs.mixture_of_agents.app import crewing
        from llama_index.packs.mixture_of_agents.app.mustering import CrewOrder

        order = CrewOrder(
            data=data,
            models=tuple(models or ()),
            planner=planner,
            aggregator=aggregator,
            out=out,
            memory=memory,
            plan=plan,
            plan_only=plan_only,
            yes=yes,
            timeout=timeout,
            as_json=as_json,
            trace=kept.trace is not False,
            trace_dir=kept.trace_dir,
            redact=kept.redact,
            progress=watched(progress, quiet),
        )
        crewing.ask(what.text(sys.stdin), order)
