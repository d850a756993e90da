"""A run in lines of plain text, for logs, pipes and terminals without cursor movement.

It knows what a line looks like, not what a run is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from llama_index.packs.mixture_of_agents.app.board import Board, lines, updated
from llama_index.packs.mixture_of_agents.app.view import View
from llama_index.packs.mixture_of_agents.events import ProgressEvent


class Lines(View):
    """A view that writes a line for each thing that happens.

    Args:
        stream: Where to.
        clock: Monotonic seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._stage = ""
        self._board = Board(rounds=0)

    def stage(self, title: str, detail: str = "") -> None:
        """Preparations have come to this; details go by unsaid."""
        if title != self._stage:
            self._write(title)
        self._stage = title

    def begin(self, rounds: int) -> None:
        """A run begins, of so many rounds of proposers."""
        self._board = Board(rounds)

    def show(self, event: ProgressEvent, text: str = "") -> None:
        """Something happened; `text` is the answer where someone answered."""
        before, self._board = self._board, updated(self._board, event, self._clock(), text)
        for line in lines(event, before, self._board):
            self._write(line)

    def finish(self, answer: str, summary: str) -> None:
        """The run is over; the answer itself goes elsewhere."""
        self._write(summary)

    def _write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()
