"""What a limit on experts costs: perplexity of real text and lost assignments, by capacity factor.

python -m benchmarks.capacity_effect [FILE.json] [--windows N]

Two models: the embedded default, whose experts are copies of one network, and one of the same dense model
whose experts were set apart. Each window of text is read in one pass, as a prompt would be. It writes the
figures, and a page and a plot of them beside the JSON; `benchmarks.capacity_report` writes them elsewhere.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.capacity_report import (
    EQUAL,
    NO_LIMIT,
    PARTED,
    POLICIES,
    CapacityFigure,
    Measured,
    tables,
    write,
)
from benchmarks.local_models import REDRAWN, Weights, default_folder, parted_folder
from benchmarks.machine import in_a_line, machine
from llama_index.packs.mixture_of_agents.sparse_moe.experts import routed
from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import find_moe_layers
from llama_index.packs.mixture_of_agents.sparse_moe.plans import plan_sequences
from llama_index.packs.mixture_of_agents.sparse_moe.recording import RoutingRecorder
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llama_index.packs.mixture_of_agents.sparse_moe.stats import RoutingStats

DEFAULT = Path(__file__).parent / "results" / "capacity.json"
PACKAGES = ("transformers", "torch")

TOPICS = ("execmodel", "import", "debugger", "objects")
"""Chapters of Python's own documentation, which every Python carries: English prose with some code."""
WINDOW = 512

FACTORS = (0.5, 0.75, 1.0, 1.25, 2.0)
OPTIONS: dict[str, dict[str, Any]] = {
    "drop": {},
    "drop, by position": {"capacity_priority": "position"},
    "drop, renormalised": {"renormalize": True},
    "reroute": {"overflow": "reroute"},
}
UNLIMITED = RoutingSettings()

Ids = list[int]


def windows(tokenizer: Any, count: int) -> list[Ids]:
    """The beginnings of the chapters, as token ids."""
    return [tokenizer(topics[name])["input_ids"][:WINDOW] for name in TOPICS[:count]]


def settings() -> Iterator[tuple[str, RoutingSettings]]:
    """Every policy at every capacity factor, no limit first."""
    yield NO_LIMIT, UNLIMITED
    for policy in POLICIES:
        for factor in FACTORS:
            yield policy, replace(UNLIMITED, capacity_factor=factor, **OPTIONS[policy])


@dataclass(frozen=True)
class Reading:
    """A window, read in one pass.

    Attributes:
        surprise: Sum of the negative log-likelihoods of all tokens but the first.
        bare: Share of tokens that no expert took, mean over layers.
        routing: Where the tokens went.
    """

    surprise: float
    bare: float
    routing: RoutingStats


def read(model: PreTrainedModel, ids: Ids, routing: RoutingSettings) -> Reading:
    """Read a window with its tokens going to experts as the settings say."""
    layers = find_moe_layers(model)
    recorder = RoutingRecorder(layers)
    plan = plan_sequences([range(len(ids))], [len(ids)], routing, model.device, recorder)
    ids_T = torch.tensor(ids, device=model.device)
    with torch.no_grad(), routed(layers, plan):
        logits_TV = model(ids_T[None], use_cache=False).logits[0]
    surprise = cross_entropy(logits_TV[:-1].float(), ids_T[1:], reduction="sum")
    bare = [float((~one.routing.kept_TK).all(-1).float().mean()) for one in recorder.observations]
    return Reading(float(surprise), statistics.mean(bare), recorder.collect(1)[0])


def take_figure(
    model: PreTrainedModel, name: str, texts: Sequence[Ids], policy: str, routing: RoutingSettings
) -> CapacityFigure:
    """One model's figure under one policy."""
    readings = [read(model, ids, routing) for ids in texts]
    total = readings[0].routing
    for one in readings[1:]:
        total = total + one.routing
    return CapacityFigure(
        name,
        policy,
        routing.capacity_factor,
        math.exp(sum(one.surprise for one in readings) / sum(len(ids) - 1 for ids in texts)),
        total.dropped_share,
        total.rerouted_share,
        statistics.mean(one.bare for one in readings),
        total.imbalance or 0.0,
    )


def measure(name: str, folder: Path, count: int) -> tuple[list[CapacityFigure], int]:
    """All figures of one model, and the number of tokens they were measured on."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    texts, model = windows(tokenizer, count), Weights.of(folder).model
    listed = []
    for policy, routing in settings():
        started = time.perf_counter()
        listed.append(take_figure(model, name, texts, policy, routing))
        seconds = time.perf_counter() - started
        print(
            f"{name}, {policy}, {routing.capacity_factor}: {listed[-1].perplexity:.2f} ({seconds:.1f} s)",
            flush=True,
        )
    return listed, sum(map(len, texts))


def main() -> None:
    """Measure, print, write."""
    chosen = _arguments()
    about = machine(PACKAGES)
    print(in_a_line(about), flush=True)
    models = {EQUAL: default_folder(), PARTED: parted_folder()}
    listed: list[CapacityFigure] = []
    for name, folder in models.items():
        found, tokens = measure(name, folder, chosen.windows)
        listed += found
    read_topics = TOPICS[: chosen.windows]
    block = UNLIMITED.capacity_block
    measured = Measured(about, folder.name, REDRAWN, read_topics, tokens, WINDOW, block, listed)
    print(f"\n{tables(measured)}")
    chosen.file.parent.mkdir(parents=True, exist_ok=True)
    chosen.file.write_text(json.dumps(asdict(measured), indent=1) + "\n", encoding="utf-8")
    write(measured, chosen.file.parent)
    print(f"\nWritten to {chosen.file}, with a page and a plot beside it")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity_effect")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument(
        "--windows",
        type=int,
        default=len(TOPICS),
        choices=range(1, len(TOPICS) + 1),
        help=f"how many of {WINDOW} tokens to read",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
