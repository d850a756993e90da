"""What the shared prompt layout saves a whole mixture: three roles on one local model, two rounds, an answer.

python -m benchmarks.local_layout [FILE.json] [--tokens N] [--repetitions N]

The same pack twice, on the same weights: once its LLM says that it shares prefixes, so what all read comes
first, and once it does not, so each prompt begins with the role. The engine shares what it can in both.
Answers differ, because prompts do; so tokens are reported beside the times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.local_models import Weights, engine_stats, fresh
from benchmarks.machine import in_a_line, machine
from benchmarks.prefix_layout import QUESTIONS
from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM

DEFAULT = Path(__file__).parent / "results" / "local_layout.json"
PACKAGES = ("llama-index-core", "llama-index-workflows", "transformers", "torch")
QUESTION = QUESTIONS["with three pages of text"]
SEATS, LAYERS = 3, 3


class RoleFirstLLM(SparseMoELLM):
    """A local model that keeps its sharing to itself, so the mixture lays prompts out as for any other."""

    @property
    def prefix_sharing_key(self) -> Hashable:
        """None: never shares."""
        return None


LAYOUTS: dict[str, type[SparseMoELLM]] = {"role first": RoleFirstLLM, "role last": SparseMoELLM}


@dataclass(frozen=True)
class Run:
    """One run of the mixture.

    Attributes:
        seconds: From the question to the answer.
        prompt_tokens: Of all prompts.
        read_tokens: Those that were computed.
        new_tokens: Of all answers.
    """

    seconds: float
    prompt_tokens: int
    read_tokens: int
    new_tokens: int


def run(weights: Weights, layout: str, tokens: int, question: str = QUESTION) -> Run:
    """Ask the mixture once, on an engine that has computed nothing yet."""
    opened = LAYOUTS[layout](weights.model, str(weights.folder), temperature=0.0, max_new_tokens=tokens)
    with fresh(opened, weights) as llm:
        pack = MixtureOfAgentsPack(
            llm, [llm], num_layers=LAYERS, strategy="role", nb_models_by_layer=SEATS, timeout=None
        )
        started = time.perf_counter()
        answer = pack.run(question)
        seconds = time.perf_counter() - started
        stats = engine_stats(llm)
    if answer.degraded:
        raise RuntimeError(f"a call gave nothing: {'; '.join(map(str, answer.missing))}")
    return Run(
        seconds,
        stats.read_tokens + stats.shared_tokens,
        stats.read_tokens,
        answer.usage.completion_tokens or 0,
    )


def measure(weights: Weights, tokens: int, repetitions: int) -> dict[str, list[Run]]:
    """Both layouts in turn, after a short warm-up."""
    for layout in LAYOUTS:
        run(weights, layout, 2, "Why is the sky blue?")
    runs: dict[str, list[Run]] = {layout: [] for layout in LAYOUTS}
    for repetition in range(repetitions):
        for layout, listed in runs.items():
            listed.append(run(weights, layout, tokens))
            print(f"{repetition + 1}/{repetitions} {layout}: {listed[-1].seconds:.1f} s", flush=True)
    return runs


def table(runs: dict[str, list[Run]]) -> str:
    """The medians as a Markdown table."""
    lines = [
        "| layout | wall time | times as fast | prompt tokens | computed | new tokens |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    first = _median(next(iter(runs.values())))
    for layout, listed in runs.items():
        last, seconds = listed[-1], _median(listed)
        cells = [
            f"{seconds:.1f} s",
            f"{first / seconds:.2f}",
            last.prompt_tokens,
            last.read_tokens,
            last.new_tokens,
        ]
        lines.append(f"| {layout} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _median(listed: list[Run]) -> float:
    return statistics.median(one.seconds for one in listed)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_layout")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--tokens", type=int, default=64, help="longest answer of each call")
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    about = machine(PACKAGES)
    print(in_a_line(about), flush=True)
    weights = Weights.of_default()
    runs = measure(weights, chosen.tokens, chosen.repetitions)
    print(f"\n{SEATS} roles, {LAYERS - 1} rounds, a synthesis; answers of at most {chosen.tokens} tokens\n")
    print(table(runs))
    listed = {layout: [asdict(one) for one in listed] for layout, listed in runs.items()}
    found = {"machine": about, "model": weights.folder.name, "max_new_tokens": chosen.tokens, "runs": listed}
    chosen.file.parent.mkdir(parents=True, exist_ok=True)
    chosen.file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\nWritten to {chosen.file}")


if __name__ == "__main__":
    main()
