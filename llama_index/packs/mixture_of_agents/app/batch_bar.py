"""How a batch is watched on a terminal: a bar, what it costs, the time left. It decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from llama_index.packs.mixture_of_agents.app.batch_views import BatchSilence, failure, money
from llama_index.packs.mixture_of_agents.app.batching import Tally


class BatchBar(BatchSilence):
    """A bar on a terminal, with the time left. Close it, whatever happens: it hides the cursor.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self._console = console
        self._progress = Progress(*columns, console=console)
        self._task: TaskID | None = None

    def begin(self, tally: Tally) -> None:
        """It begins, or goes on from here."""
        self._task = self._progress.add_task(money(tally), total=tally.total, completed=tally.done)
        self._progress.start()

    def row(self, answer: Mapping[str, Any], tally: Tally) -> None:
        """A row is finished."""
        if answer.get("error") is not None:
            self._console.print(failure(answer), style="red", markup=False, highlight=False)
        if self._task is not None:
            self._progress.update(self._task, completed=tally.done, description=money(tally))

    def close(self) -> None:
        """Give back what is held of the terminal."""
        self._progress.stop()
