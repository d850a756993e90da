"""What a trace costs a run: the same runs with it and without it, in turns, in one process.

python -m benchmarks.trace_overhead [FILE.json]

Six proposers in two rounds and a synthesis. With instant models nothing hides the cost; with models that
take a while, the writing thread works while they do. It knows nothing of what is in a trace.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import in_a_line, machine
from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.records.trace import Trace
from llama_index.packs.mixture_of_agents.records.traces.reading import read_trace
from llama_index.packs.mixture_of_agents.testing import LatencyLLM

DEFAULT = Path(__file__).parent / "results" / "trace_overhead.json"
PROPOSERS = 6
LAYERS = 3
ANSWER = "A draft of about a hundred words, as models write them when asked for a short answer. " * 7


@dataclass(frozen=True)
class Overhead:
    """What a trace costs in one scenario.

    Attributes:
        scenario: What was run.
        repetitions: So many runs (or batches of them) of each kind.
        off_ms: Median milliseconds a run without a trace.
        on_ms: Likewise with one.
        ratio: The second over the first.
        bytes_a_run: Size of a run's trace.
    """

    scenario: str
    repetitions: int
    off_ms: float
    on_ms: float
    ratio: float
    bytes_a_run: int

    def __str__(self) -> str:
        return (
            f"| {self.scenario} | {self.off_ms:.2f} ms | {self.on_ms:.2f} ms | "
            f"{self.on_ms - self.off_ms:+.2f} ms | {self.ratio:.2f} | {self.bytes_a_run:,} |"
        )


def pack_with(trace: Trace | None, latency: float) -> MixtureOfAgentsPack:
    """The mixture that is measured."""
    proposers = [LatencyLLM(latency, ANSWER, model=f"proposer-{n}") for n in range(PROPOSERS)]
    aggregator = LatencyLLM(latency, ANSWER, model="aggregator")
    return MixtureOfAgentsPack(aggregator, proposers, LAYERS, timeout=None, trace=trace)


async def _timed(pack: MixtureOfAgentsPack, at_once: int) -> float:
    """Milliseconds a run, of so many at once."""
    began = time.perf_counter()
    await asyncio.gather(*(pack.arun("Why is the sky blue?") for _ in range(at_once)))
    return 1000 * (time.perf_counter() - began) / at_once


async def overhead(
    scenario: str, folder: Path, *, latency: float = 0.0, at_once: int = 1, repetitions: int = 40
) -> Overhead:
    """Measure one scenario, kinds in turns, so that a drift of the machine touches both.

    Args:
        scenario: What it is called.
        folder: Where traces go.
        latency: Seconds each call takes.
        at_once: Runs at once.
        repetitions: Of each kind, after one of each that does not count.
    """
    off, on = pack_with(None, latency), pack_with(Trace(folder=folder), latency)
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(repetitions + 1):
        for traced in (False, True) if number % 2 else (True, False):
            took = await _timed(on if traced else off, at_once)
            if number:
                times[traced].append(took)
    without, with_trace = statistics.median(times[False]), statistics.median(times[True])
    ratio = with_trace / without
    return Overhead(
        scenario, repetitions, without, with_trace, ratio, _size(folder, (repetitions + 1) * at_once)
    )


def _size(folder: Path, runs: int) -> int:
    files = list(folder.glob("*.jsonl"))
    if len(files) != runs or read_trace(files[0])[0].status != "answered":
        raise RuntimeError("traces are missing, so nothing was measured")
    return round(statistics.mean(path.stat().st_size for path in files))


async def measure() -> list[Overhead]:
    """All scenarios."""
    figures = []
    for name, options in (
        ("one run, instant models", {}),
        ("one run, models of 0.1 s", {"latency": 0.1, "repetitions": 8}),
        ("50 runs at once, instant models", {"at_once": 50, "repetitions": 8}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            figures.append(await overhead(name, Path(folder), **options))
    return figures


def main() -> None:
    """Measure, print, write."""
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    about = machine(("llama-index-core", "llama-index-workflows"))
    print(in_a_line(about), flush=True)
    figures = asyncio.run(measure())
    print("| a run | trace off | trace on | difference | ratio | bytes a run |\n|---|---|---|---|---|---|")
    print("\n".join(map(str, figures)))
    where.parent.mkdir(parents=True, exist_ok=True)
    figures_as_json = [asdict(figure) for figure in figures]
    where.write_text(json.dumps({"machine": about, "figures": figures_as_json}, indent=1) + "\n")
    print(f"\nWritten to {where}")


if __name__ == "__main__":
    main()
