"""Taking part in runs to know what they ask and how they end. It does not know what for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage

_MOST = 1_000


class Questions:
    """The questions of the last runs, by the id of the run; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_run: dict[str, str] = {}

    def add(self, run_id: str, question: str) -> None:
        """Remember one; the oldest is forgotten."""
        with self._lock:
            self._by_run[run_id] = question
            if len(self._by_run) > _MOST:
                del self._by_run[next(iter(self._by_run))]

    def of(self, run_id: str) -> str | None:
        """What a run asked; None where that is not known, or no longer."""
        return self._by_run.get(run_id)

    def has(self, question: str) -> bool:
        """Whether some run asked it."""
        with self._lock:
            return question in self._by_run.values()


class Attendance:
    """A `RunWatch` that waits for the end of a run.

    Args:
        tell: Told of an answer; not of a failure.
    """

    def __init__(self, tell: Callable[[MixtureResponse], None]) -> None:
        self._tell = tell

    def asks(self, call: Call) -> None:
        """Nothing is done with it."""

    def happened(self, event: Any) -> None:
        """Nothing is done with it."""

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        """Nothing is done with it."""

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        """Pass an answer on."""
        if isinstance(outcome, MixtureResponse):
            self._tell(outcome)
