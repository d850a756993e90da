"""How a batch is watched in a log or a pipe, and the words for it. They decide nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from llama_index.packs.mixture_of_agents.app.batching import Tally, time_left
from llama_index.packs.mixture_of_agents.app.board import dollars, opening

_LINES = 20
"""So many lines for a whole batch, and one for each row that failed."""


class BatchSilence:
    """Shows nothing. Those that show something build on it."""

    def begin(self, tally: Tally) -> None:
        """It begins, or goes on from here."""

    def row(self, answer: Mapping[str, Any], tally: Tally) -> None:
        """A row is finished."""

    def close(self) -> None:
        """Give back what is held of the terminal."""


class BatchLines(BatchSilence):
    """Lines of plain text, for logs and pipes.

    Args:
        stream: Where to.
        clock: Monotonic seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._before = Tally(0)
        self._since = 0.0

    def begin(self, tally: Tally) -> None:
        """It begins, or goes on from here."""
        self._before, self._since = tally, self._clock()
        if tally.done:
            self._write(f"goes on: {tally.done:,} of {tally.total:,} rows are done")

    def row(self, answer: Mapping[str, Any], tally: Tally) -> None:
        """A row is finished."""
        if answer.get("error") is not None:
            self._write(failure(answer))
        if tally.done * _LINES // tally.total > (tally.done - 1) * _LINES // tally.total:
            self._write(standing(self._before, tally, self._clock() - self._since))

    def _write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


def failure(answer: Mapping[str, Any]) -> str:
    """A row without an answer, in a line."""
    return f"row {answer['row']} failed: {opening(str(answer['error']['message']))}"


def standing(before: Tally, now: Tally, seconds: float) -> str:
    """How far a batch has come, and how long it will take, in a line."""
    left = time_left(before, now, seconds)
    ending = f", about {duration(left)} left" if left and left >= 1 else ""
    return f"{now.done:,} of {now.total:,} rows{ending}{money(now)}"


def money(tally: Tally) -> str:
    """What it has cost, behind something else; nothing where that is not known."""
    cost = tally.usage.cost_usd if tally.usage else None
    return f" · {dollars(cost)}" if cost else ""


def duration(seconds: float) -> str:
    """A time in words, no finer than it is worth: "40 s", "12 min", "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
