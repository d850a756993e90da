"""Outcomes on their way to their store, in a thread of their own: an event loop does not wait for a file.

What cannot be kept costs a warning. Whom outcomes are about, and what they come to, is not known here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.outcomes import Outcome, OutcomeStore

_logger = logging.getLogger(__name__)


class PendingOutcomes:
    """Keeps outcomes soon; threads and event loops may share it.

    Args:
        store: Where they go.
        kept: Called in the thread when some have been kept.
    """

    def __init__(self, store: OutcomeStore, kept: Callable[[], None]) -> None:
        self._store, self._kept = store, kept
        self._lock = threading.Lock()
        self._waiting: list[Outcome] = []
        self._thread: threading.Thread | None = None
        self._has_failed = False

    def put(self, outcomes: Sequence[Outcome]) -> None:
        """Have them kept, together with others that wait."""
        with self._lock:
            self._waiting.extend(outcomes)
            # In a forked child the thread is dead. What its parent left waiting counts once if kept twice.
            if self._thread is None or not self._thread.is_alive():
                # No daemon: a program that ends has kept what it learned last.
                self._thread = threading.Thread(target=self._work, daemon=False, name="moa-outcomes")
                self._thread.start()

    def settle(self, seconds: float) -> None:
        """Wait until all that was put is kept, or could not be; so long at most."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _work(self) -> None:
        while some := self._taken():
            try:
                self._store.keep(some)
            except ConfigurationError as error:
                self._warn(error)
            else:
                self._has_failed = False
                self._kept()

    def _taken(self) -> list[Outcome]:
        """All that wait; with none, the thread ends."""
        with self._lock:
            some, self._waiting = self._waiting, []
            if not some:
                self._thread = None
            return some

    def _warn(self, error: ConfigurationError) -> None:
        if not self._has_failed:
            self._has_failed = True
            _logger.warning("%s Until then, what runs teach is lost.", error)
