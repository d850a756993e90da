"""Models on this machine: `moa upcycle` makes one, `moa experts` looks into one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from llama_index.packs.mixture_of_agents.app import preparing
from llama_index.packs.mixture_of_agents.app.commands.keeping import Progress
from llama_index.packs.mixture_of_agents.app.experts import DEFAULT_MODEL, Look, prompt_from, show
from llama_index.packs.mixture_of_agents.app.statuses import reported


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(upcycle)
    app.command()(experts)


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
    progress: Progress = None,
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
