"""What orchestrating costs: wall time over the critical path, alone and many at once, and fixed cost.

Contenders take turns within each repetition, so that a drift of the machine's speed touches all of
them. It knows the contenders by name only.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from benchmarks.contenders import CALLS, CONTENDERS, CRITICAL_PATH, Ask, SimulatedLLM

CALL_SECONDS = 0.2


@dataclass(frozen=True)
class Figure:
    """One contender's figure in one scenario.

    Attributes:
        contender: Its name.
        scenario: What was measured.
        seconds: Median wall time.
        ratio: Over the critical path of the calls; None for instant models.
    """

    contender: str
    scenario: str
    seconds: float
    ratio: float | None


async def _wall(ask: Ask, at_once: int) -> float:
    gc.collect()  # a contender does not pay for its predecessor's garbage
    started = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(at_once)))
    return time.perf_counter() - started


async def _medians(
    asks: dict[str, Ask], repetitions: int, measure: Callable[[Ask], asyncio.Future[float]]
) -> dict[str, float]:
    walls: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(repetitions):
        for name, ask in asks.items():
            walls[name].append(await measure(ask))
    return {name: statistics.median(listed) for name, listed in walls.items()}


async def _with_latency(at_once: int, repetitions: int) -> list[Figure]:
    asks = {name: build(SimulatedLLM(seconds=CALL_SECONDS)) for name, build in CONTENDERS.items()}
    for ask in asks.values():
        await ask()  # imports, caches and validation are not what is measured
    walls = await _medians(asks, repetitions, lambda ask: asyncio.ensure_future(_wall(ask, at_once)))
    ideal = CALL_SECONDS * CRITICAL_PATH
    scenario = (
        f"{at_once} at once, {CALL_SECONDS} s a call" if at_once > 1 else f"alone, {CALL_SECONDS} s a call"
    )
    return [Figure(name, scenario, wall, wall / ideal) for name, wall in walls.items()]


async def _instant(runs: int, repetitions: int) -> list[Figure]:
    asks = {name: build(SimulatedLLM()) for name, build in CONTENDERS.items()}

    async def one_run(ask: Ask) -> float:
        started = time.perf_counter()
        for _ in range(runs):
            await ask()
        return (time.perf_counter() - started) / runs

    for ask in asks.values():
        await ask()
    walls = await _medians(asks, repetitions, lambda ask: asyncio.ensure_future(one_run(ask)))
    scenario = f"fixed cost, {CALLS} instant calls"
    return [Figure(name, scenario, wall, None) for name, wall in walls.items()]


async def measure() -> list[dict[str, object]]:
    """Every scenario, every contender."""
    figures = await _instant(runs=20, repetitions=5)
    for at_once, repetitions in ((1, 5), (50, 5), (200, 3)):
        figures += await _with_latency(at_once, repetitions)
    return [asdict(figure) for figure in figures]
