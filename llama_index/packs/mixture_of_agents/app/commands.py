"""The commands of `moa` and their options. They fetch what is asked for and hand it on.

moa ask       ask a mixture: models you name, or the embedded local one
moa demo      the same with a question of ours, to see how it works
moa upcycle   make a sparse mixture of experts of a dense model
moa experts   see which experts of a model a prompt goes to
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from llama_index.packs.mixture_of_agents.app import asking, preparing
from llama_index.packs.mixture_of_agents.app.argv import spread
from llama_index.packs.mixture_of_agents.app.asking import Order
from llama_index.packs.mixture_of_agents.app.experts import DEFAULT_MODEL, Look, prompt_from, show
from llama_index.packs.mixture_of_agents.app.statuses import reported

_DISTRIBUTION = "llama-index-packs-mixture-of-agents"
_VARIADIC = ("--models",)

app = typer.Typer(
    name="moa",
    no_args_is_help=True,
    add_completion=False,
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
    app(args=spread(words, _VARIADIC), prog_name="moa")


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
    """


_Models = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL...",
        help="Who proposes, one or more. Without it: three roles on the embedded local model.",
        show_default=False,
    ),
]
_Progress = Annotated[
    bool | None,
    typer.Option(
        "--progress/--no-progress",
        help="Show what goes on. By default on terminals only; as plain lines on stderr when the answer "
        "goes to a pipe.",
        show_default=False,
    ),
]


@app.command()
def ask(
    question: Annotated[
        str | None,
        typer.Argument(help="What to ask; '-' or nothing reads it from standard input.", show_default=False),
    ] = None,
    models: _Models = None,
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
    progress: _Progress = None,
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


@app.command()
def demo() -> None:
    """See a mixture at work: three proposers on a local model, two rounds, one answer.

    Needs no key. The first time, it fetches a small model (93 MB) and makes a sparse mixture of
    experts of it (1.5 GB in your cache folder; MOA_CACHE_DIR names another place).

    [bold]Example[/bold]

      moa demo
    """
    with reported():
        asking.demonstrate()


@app.command()
def upcycle(
    source: Annotated[
        Path,
        typer.Argument(help="A dense Llama, Mistral, Qwen2 or Qwen3 model: a directory, or a .gguf file."),
    ],
    destination: Annotated[Path, typer.Argument(help="A directory to make; it must not exist yet.")],
    experts: Annotated[int, typer.Option(help="Experts per layer.")] = 4,
    top_k: Annotated[int, typer.Option(help="Experts that each token is sent to.")] = 2,
    noise: Annotated[
        float, typer.Option(help="Gaussian noise on each expert, as a multiple of its weights' spread.")
    ] = 0.0,
    reinitialize: Annotated[
        float, typer.Option(help="Share of each expert's units to draw anew, 0 to 1 (drop-upcycling).")
    ] = 0.0,
    router: Annotated[
        str, typer.Option(help="random, or kmeans: fitted to what prompts look like.")
    ] = "random",
    prompts: Annotated[
        Path | None,
        typer.Option(help="For kmeans: a text file, one prompt a line; by default ours.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    progress: _Progress = None,
) -> None:
    """Make a sparse mixture of experts of a dense model.

    Each expert starts as a copy of the dense feed-forward network, so the result writes what the dense
    model writes until the experts are trained apart; with --noise or --reinitialize they start apart. It
    is a stock checkpoint: Mixtral of Llama and Mistral, Qwen2-MoE of Qwen2, Qwen3-MoE of Qwen3.

    [bold]Examples[/bold]

      moa upcycle SmolLM2-135M-Instruct.Q4_1.gguf smol-moe

      moa upcycle models/llama-1b models/llama-8x1b --experts 8 --top-k 2

      moa upcycle models/qwen3-0.6b models/qwen3-moe --router kmeans --reinitialize 0.5

      moa ask "..." --models sparse-moe:smol-moe
    """
    recipe = {
        "experts": experts,
        "top_k": top_k,
        "noise": noise,
        "reinitialize": reinitialize,
        "router": router,
        "seed": seed,
    }
    with reported():
        preparing.upcycle(source, destination, recipe, prompts, progress)


@app.command()
def experts(
    model: Annotated[
        str, typer.Argument(help="A model's directory; without it, the embedded local model.")
    ] = DEFAULT_MODEL,
    prompt: Annotated[
        str | None,
        typer.Option(help="What the model reads; '-' or nothing reads standard input.", show_default=False),
    ] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help="A file to read instead.", show_default=False)
    ] = None,
    as_chat: Annotated[
        bool, typer.Option("--chat/--raw", help="In the chat template, or as it stands.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(help="Look at so many tokens of the answer too.")] = 0,
    top_k: Annotated[
        int | None, typer.Option(help="Experts per token; by default the model's own.", show_default=False)
    ] = None,
    capacity_factor: Annotated[
        float | None,
        typer.Option(help="Times the even share an expert may take; by default any.", show_default=False),
    ] = None,
    capacity_block: Annotated[int, typer.Option(help="Tokens that share a limit.")] = 128,
    overflow: Annotated[str, typer.Option(help="What the limit cuts off: drop or reroute.")] = "drop",
    by: Annotated[
        str, typer.Option(help="Rows of the map: layer (its load), or token (its experts in one layer).")
    ] = "layer",
    layer: Annotated[
        int | None,
        typer.Option(help="With --by token: which layer; by default the most uneven.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Draw it into a .png or .svg file too.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as one JSON document.")] = False,
) -> None:
    """See which experts of a local model a prompt goes to.

    The model reads the prompt once. Each row of the map is a layer, each cell
    the share of its work that an expert got. Beside it stand what was dropped
    or rerouted, how undecided the router was (entropy, as a share of the largest
    possible), and the busiest expert's load over the mean.

    [bold]Examples[/bold]

      moa experts --prompt "Why is the sky blue?"

      moa experts models/olmoe --prompt-file essay.txt -o experts.svg

      moa experts models/olmoe --capacity-factor 1.0 --overflow reroute < essay.txt

      moa experts --chat --prompt "Why?" --max-tokens 20 --by token --layer 3

    Exit status: 0 shown, 1 the model failed, 2 refused, 130 interrupted.
    """
    routing = {
        "top_k": top_k,
        "capacity_factor": capacity_factor,
        "capacity_block": capacity_block,
        "overflow": overflow,
    }
    with reported():
        text = prompt_from(prompt, prompt_file, sys.stdin)
        show(Look(model, text, routing, as_chat, max_tokens, by, layer, output, as_json))
