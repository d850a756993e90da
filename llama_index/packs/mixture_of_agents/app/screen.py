"""A run on a terminal: a board that moves while a layer works, then the answer as it is written.

A finished board stays above the next, so the whole way to the answer can be read afterwards. It draws
what `board` and `pictures` say; it decides nothing about runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from llama_index.packs.mixture_of_agents.app.board import Board, Stage, printable, updated
from llama_index.packs.mixture_of_agents.app.pictures import board_picture, spinner, stage_picture
from llama_index.packs.mixture_of_agents.app.view import View
from llama_index.packs.mixture_of_agents.app.wrapping import Wrapping
from llama_index.packs.mixture_of_agents.events import ProgressEvent

_WIDEST = 100
"""Longer lines are hard to read."""


class Screen(View):
    """A view on a terminal. Close it, whatever happens: it hides the cursor.

    Args:
        console: The terminal.
        clock: Monotonic seconds.
    """

    shows_answer = True

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._is_unicode = console.encoding.startswith("utf")
        self._spinner = spinner(self._is_unicode)
        self._live: Live | None = None
        self._stage: Stage | None = None
        self._board = Board(rounds=0)
        self._shown = ""
        self._is_broken = False
        self._wrapping = self._new_wrapping()

    def stage(self, title: str, detail: str = "") -> None:
        """Preparations have come to this."""
        if self._stage is not None and self._stage.title == title:
            self._stage = self._stage.at(detail)
            return
        self._end_stage()
        self._stage = Stage(title, self._clock(), detail)
        self._animate()

    def begin(self, rounds: int) -> None:
        """A run begins, of so many rounds of proposers."""
        self._end_stage()
        self._board = Board(rounds)

    def show(self, event: ProgressEvent, text: str = "") -> None:
        """Something happened; `text` is the answer where someone answered."""
        after = updated(self._board, event, self._clock(), text)
        if after.place != self._board.place:
            self._freeze()
        self._board = after
        if after.chosen:
            self._console.print()
            self._console.print(Text(printable(after.title), style="bold"))
        if self._shown and event.kind in ("missing", "synthesis"):
            self._break_off()
        # While an answer is being written, there is no room for a board below it.
        if self._live is None and self._board.rows and (not self._shown or self._is_broken):
            self._console.print()
            self._animate()

    def delta(self, text: str) -> None:
        """A piece of the answer came."""
        if not self._shown or self._is_broken:
            self._open_answer()
        self._shown += text
        self._write(self._wrapping.fed(printable(text)))

    def finish(self, answer: str, summary: str) -> None:
        """The run is over: print what of the answer was not streamed, and what it took."""
        if self._shown.strip() != answer.strip():
            self.delta(answer)
        self._freeze()
        self._write(self._wrapping.ended())
        newlines = len(self._shown) - len(self._shown.rstrip("\n"))
        self._write("\n" * (2 - min(newlines, 2)))
        self._console.print(Text(summary, style="dim"))

    def close(self) -> None:
        """Stop moving, and give the cursor back."""
        self._freeze()

    def _break_off(self) -> None:
        """The model that was writing failed; what it wrote stands above, unfinished."""
        if not self._is_broken:
            self._write(f"{self._wrapping.ended()}\n")
        self._is_broken = True

    def _open_answer(self) -> None:
        self._freeze()
        if self._is_broken:
            self._console.print(Text("That answer broke off. It starts over:", style="yellow"))
        self._shown, self._is_broken = "", False
        self._wrapping = self._new_wrapping()
        self._console.print()

    def _new_wrapping(self) -> Wrapping:
        return Wrapping(min(self._console.width, _WIDEST), cell_len)

    def _write(self, text: str) -> None:
        # Markup in a model's words is text like any other.
        self._console.print(Text(text), end="", soft_wrap=True)

    def _end_stage(self) -> None:
        if self._stage is not None:
            self._stage = self._stage.done()
        self._freeze()
        self._stage = None

    def _animate(self) -> None:
        self._live = Live(console=self._console, get_renderable=self._moving, refresh_per_second=8)
        self._live.start(refresh=True)

    def _freeze(self) -> None:
        """Let the picture stand as it is now, and go on below it."""
        if self._live is None:
            return
        live, self._live = self._live, None
        # Stopping draws once more: this time without what moves.
        live.stop()

    def _moving(self) -> RenderableType:
        moving: Spinner | None = None if self._live is None else self._spinner
        now = self._clock()
        if self._stage is not None:
            return stage_picture(self._stage, now, moving, is_unicode=self._is_unicode)
        # The "^C" that a terminal echoes must not break the last line: the next drawing would be off by one.
        width = max(1, self._console.width - len("^C") - 1)
        return board_picture(self._board, now, moving, width, is_unicode=self._is_unicode)
