"""What watches a run, and the preparations before it. Knows no terminal, no stream, no run."""

from __future__ import annotations

from llama_index.packs.mixture_of_agents.events import ProgressEvent


class View:
    """Watches and shows nothing. Those that show something build on it.

    Attributes:
        shows_answer: Whether it prints the answer itself.
    """

    shows_answer = False

    def stage(self, title: str, detail: str = "") -> None:
        """Preparations have come to this, and within it so far."""

    def begin(self, rounds: int) -> None:
        """A run begins, of so many rounds of proposers."""

    def show(self, event: ProgressEvent, text: str = "") -> None:
        """Something happened; `text` is the answer where someone answered."""

    def delta(self, text: str) -> None:
        """A piece of the answer came."""

    def finish(self, answer: str, summary: str) -> None:
        """The run is over, and its answer printed unless this view shows it."""

    def close(self) -> None:
        """Give back what is held of the terminal."""
