"""What orchestrating costs: wall time over the critical path, alone and many at once, and fixed cost.

Contenders take turns within each repetition, so that a drift of the machine's speed touches all of
them. It knows the contenders by name only.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
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
        gc_seconds: Median time of the garbage collector within.
    """

    contender: str
    scenario: str
    seconds: float
    ratio: float | None
    gc_seconds: float


class _Collections:
    """The seconds Python's garbage collector takes while this is open."""

    def __enter__(self) -> _Collections:
        self.seconds = self._began = 0.0
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._began = now
        else:
            self.seconds += now - self._began


Timing = tuple[float, float]
"""Seconds of wall time, and of garbage collection within."""


async def _wall(ask: Ask, at_once: int, times: int = 1) -> Timing:
    gc.collect()  # a contender does not pay for its predecessor's garbage
    with _Collections() as collections:
        started = time.perf_counter()
        for _ in range(times):
            await asyncio.gather(*(ask() for _ in range(at_once)))
        wall = time.perf_counter() - started
    return wall / times, collections.seconds / times


async def _medians(call_seconds: float, repetitions: int, at_once: int, times: int) -> dict[str, Timing]:
    asks = {name: build(SimulatedLLM(seconds=call_seconds)) for name, build in CONTENDERS.items()}
    for ask in asks.values():
        await ask()  # imports, caches and validation are not what is measured
    timings: dict[str, list[Timing]] = {name: [] for name in asks}
    for _ in range(repetitions):
        for name, ask in asks.items():
            timings[name].append(await _wall(ask, at_once, times))
    return {
        name: (
            statistics.median(wall for wall, _ in listed),
            statistics.median(collected for _, collected in listed),
        )
        for name, listed in timings.items()
    }


async def _with_latency(at_once: int, repetitions: int) -> list[Figure]:
    ideal = CALL_SECONDS * CRITICAL_PATH
    scenario = f"{at_once} at once" if at_once > 1 else "alone"
    medians = await _medians(CALL_SECONDS, repetitions, at_once, times=1)
    return [
        Figure(name, f"{scenario}, {CALL_SECONDS} s a call", wall, wall / ideal, collected)
        for name, (wall, collected) in medians.items()
    ]


async def _instant(runs: int, repetitions: int) -> list[Figure]:
    medians = await _medians(0.0, repetitions, at_once=1, times=runs)
    scenario = f"fixed cost, {CALLS} instant calls"
    return [Figure(name, scenario, wall, None, collected) for name, (wall, collected) in medians.items()]


async def measure() -> list[dict[str, object]]:
    """Every scenario, every contender."""
    figures = await _instant(runs=20, repetitions=5)
    for at_once, repetitions in ((1, 5), (50, 5), (200, 3)):
        figures += await _with_latency(at_once, repetitions)
    return [asdict(figure) for figure in figures]
