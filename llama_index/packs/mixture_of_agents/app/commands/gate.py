"""`moa gate`: who is worth asking, learned from recorded answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app import gating
from llama_index.packs.mixture_of_agents.app.commands.keeping import AsJson, RunNamed, RunOfTrace
from llama_index.packs.mixture_of_agents.app.statuses import reported
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_group = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})

_File = Annotated[
    Path,
    typer.Argument(help="JSONL with question, answer and responses; or a trace, with --answers."),
]
_Answers = Annotated[
    Path | None,
    typer.Option(help="For a trace: JSONL with run or question, and answer.", show_default=False),
]
_Costs = Annotated[
    list[str] | None,
    typer.Option(metavar="MODEL=USD...", help="What a call costs, for each model.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    _group.command()(train)
    _group.command("eval")(evaluate)
    _group.command()(feedback)
    _group.command()(learned)
    app.add_typer(_group, name="gate", help="Learn who is worth asking, and measure it.")


def train(
    file: _File,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the gate; replaced.")],
    kind: Annotated[str, typer.Option(help="cascade, gated, network or neighbours.")] = "cascade",
    bound: Annotated[
        float | None,
        typer.Option(
            help="Lose at most this share of right answers, expected, against asking everyone.",
            show_default=False,
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            help="Or: ask the dearest model for at most this share of questions. By default 0.5.",
            show_default=False,
        ),
    ] = None,
    costs: _Costs = None,
    extract: Annotated[
        str, typer.Option(help="What an answer is: number, choice, answer, text, or regex:PATTERN.")
    ] = "number",
    first: Annotated[
        int | None,
        typer.Option(help="Cascade: ask so many of the cheapest at once.", show_default=False),
    ] = None,
    top_k: Annotated[int, typer.Option(help="Network, neighbours: ask so many of the cheaper models.")] = 3,
    embed: Annotated[
        str | None,
        typer.Option(help="Network, neighbours: minilm, for what questions mean.", show_default=False),
    ] = None,
    answers: _Answers = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a gate of recorded answers.

    Each line of the file is one question: {"question": ..., "answer": ..., "responses": {model: text}}.
    The same questions, options and seed give the same bytes, in whatever order the lines are. Without all
    costs, the model most often right counts as the dearest.

    [bold]Examples[/bold]

      moa gate train answers.jsonl -o gate/

      moa gate train answers.jsonl -o gate/ --bound 0.005

      moa gate train answers.jsonl -o gate/ --costs small=0.0001 --costs large=0.01

      moa gate train logs/moa --answers right.jsonl -o gate/ --kind neighbours

    Exit status: 0 made, 2 refused.
    """
    with reported():
        from llama_index.packs.mixture_of_agents.gate.targets import HALF, Target
        from llama_index.packs.mixture_of_agents.gate.training import Recipe

        target = Target(bound, HALF if bound is None and share is None else share)
        recipe = Recipe(kind, target, seed, costs_from(costs or ()), first, top_k, embed)
        gating.train(file, output, recipe, extract, answers, as_json)


def evaluate(
    file: _File,
    gate: Annotated[Path, typer.Option("--gate", help="A folder that moa gate train wrote.")],
    costs: _Costs = None,
    answers: _Answers = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a gate on recorded answers: accuracy, calls, cost, and what it has to beat.

    The gate sees the question and the answers of those it asks. In a pipe the columns are parted by tabs.

    [bold]Example[/bold]

      moa gate eval answers.jsonl --gate gate/

    Exit status: 0 measured, 2 refused.
    """
    with reported():
        gating.evaluate(file, gate, costs_from(costs or ()), answers, seed, as_json)


def feedback(
    gate: Annotated[Path, typer.Option("--gate", help="A folder that moa gate train wrote.")],
    run: RunNamed = None,
    run_id: RunOfTrace = None,
    right: Annotated[
        bool | None, typer.Option("--right/--wrong", help="Of the run's answer.", show_default=False)
    ] = None,
    answer: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Or: the right answer.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell a gate what was right of a run that is in a trace.

    A later word on the same run takes the earlier one's place. What it learns stands in the gate's folder,
    and is reckoned with where --online is said. --wrong tells of those who gave that answer; --answer tells
    of everyone.

    [bold]Examples[/bold]

      moa gate feedback --gate gate/ --right

      moa gate feedback 3f2a --gate gate/ --answer 42

      moa ask "..." --models gpt-4o-mini gpt-4o --gate gate/ --online

    Exit status: 0 told, 2 refused.
    """
    with reported():
        from llama_index.packs.mixture_of_agents.app import gate_feedback

        gate_feedback.feedback(run, run_id, gate, right, answer, as_json)


def learned(
    folder: Annotated[Path, typer.Argument(help="A folder that moa gate train wrote.")],
    reset: Annotated[bool, typer.Option("--reset", help="Forget all of it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a gate has learned from feedback.

    For each model, and each group of a cascade: how often it was judged, how often it was right, how often
    that was expected, and what is believed now.

    [bold]Examples[/bold]

      moa gate learned gate/

      moa gate learned gate/ --reset

    Exit status: 0 shown, 2 refused.
    """
    with reported():
        from llama_index.packs.mixture_of_agents.app import gate_feedback

        gate_feedback.learned(folder, reset, as_json)


def costs_from(words: Sequence[str]) -> dict[str, float]:
    """Read MODEL=USD.

    Raises:
        ConfigurationError: It is something else.
    """
    costs = {}
    for word in words:
        model, _, cost = word.rpartition("=")
        try:
            costs[model] = float(cost)
        except ValueError:
            model = ""
        if not model:
            raise ConfigurationError(
                f"--costs takes MODEL=USD for a call, such as small=0.0001; found {word!r}."
            )
    return costs
