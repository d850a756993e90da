"""Where a run's time goes, by whose code it is spent in. Instant models, so nothing is waited for."""

from __future__ import annotations

import asyncio
import cProfile
import pstats
from collections import Counter

from benchmarks.contenders import SimulatedLLM, this_pack

_OWNERS = (
    ("llama_index/packs/mixture_of_agents", "this pack"),
    ("benchmarks/", "the simulated model"),
    ("workflows/", "workflow runtime"),
    ("llama_index_instrumentation", "LlamaIndex instrumentation"),
    ("llama_index/core", "LlamaIndex core (callbacks around each LLM call)"),
    ("pydantic", "pydantic"),
    ("asyncio", "asyncio"),
)
RUNS = 40


def shares() -> dict[str, float]:
    """Milliseconds of a run spent in each owner's own code, under the profiler (which slows it)."""
    profiler = cProfile.Profile()
    asyncio.run(_profiled(profiler))
    spent: Counter[str] = Counter()
    for (filename, _, _), (_, _, own, _, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        spent[_owner(filename)] += own
    return {owner: 1000 * seconds / RUNS for owner, seconds in spent.most_common()}


async def _profiled(profiler: cProfile.Profile) -> None:
    ask = this_pack(SimulatedLLM())
    await ask()
    profiler.enable()
    for _ in range(RUNS):
        await ask()
    profiler.disable()


def _owner(filename: str) -> str:
    return next((owner for part, owner in _OWNERS if part in filename), "Python and its built-ins")
