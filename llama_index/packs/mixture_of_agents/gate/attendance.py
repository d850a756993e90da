"""Taking part in runs to know what they ask and how they end. It does not know what for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from llama_index.packs.mixture_of_agents.policies import IdleWatch
from llama_index.packs.mixture_of_agents.results import MixtureResponse

MOST_ENDED = 1_000
"""Runs that are over and still known; the first to have ended is forgotten first."""


class Questions:
    """What runs ask, by their ids: all that go on, and the last that are over. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        self._known = Counter[str]()

    def add(self, run_id: str, question: str) -> None:
        """A run begins."""
        with self._lock:
            self._forget(run_id)
            self._live[run_id] = question
            self._known[question] += 1

    def end(self, run_id: str) -> None:
        """It is over, and may be forgotten."""
        with self._lock:
            if run_id in self._live:
                self._ended[run_id] = self._live.pop(run_id)
            if len(self._ended) > MOST_ENDED:
                self._forget(next(iter(self._ended)))

    def of(self, run_id: str) -> str | None:
        """What a run asked; None where that is not known, or no longer."""
        with self._lock:
            return self._live.get(run_id, self._ended.get(run_id))

    def has(self, question: str) -> bool:
        """Whether some run asked it."""
        with self._lock:
            return question in self._known

    def _forget(self, run_id: str) -> None:
        for held in (self._live, self._ended):
            question = held.pop(run_id, None)
            if question is not None:
                self._known[question] -= 1
                if not self._known[question]:
                    del self._known[question]


class Attendance(IdleWatch):
    """Waits for the end of a run.

    Args:
        run_id: The run.
        question: What it asks.
        questions: Where that is known until the run is over.
        tell: Told the question and an answer; not of a failure.
    """

    def __init__(
        self, run_id: str, question: str, questions: Questions, tell: Callable[[str, MixtureResponse], None]
    ) -> None:
        self._run_id, self._question, self._questions, self._tell = run_id, question, questions, tell
        questions.add(run_id, question)

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        """Pass an answer on."""
        self._questions.end(self._run_id)
        if isinstance(outcome, MixtureResponse):
            self._tell(self._question, outcome)
