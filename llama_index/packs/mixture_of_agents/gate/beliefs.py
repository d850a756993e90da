"""What is believed of proposers and stages, given what came true: Beta-Bernoulli posteriors.

The prior is worth so many outcomes that come out as the trained gate expected, and each outcome is worth one
(Gelman et al., Bayesian Data Analysis, 3rd ed., 2.1 and 2.4). It knows neither gates nor answers.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.outcomes import QUICKLY, Key, Outcome, OutcomeStore, Tally
from llama_index.packs.mixture_of_agents.gate.pending_outcomes import PendingOutcomes

_logger = logging.getLogger(__name__)

EDGE = 1e-6
"""No chance is taken to be nearer to 0 or to 1."""
_FRESH = 1.0
_LEFT_ALONE = 5.0
"""Seconds until a store that could not be read is tried again."""
_PATIENCE = 10.0
"""Seconds to wait for what is being kept."""


@dataclass(frozen=True)
class Estimate:
    """What is believed of one proposer, or of one stage of a cascade.

    Attributes:
        count: Outcomes it rests on; older ones count less where they decay.
        right: The share of them that came true.
        expected: The share that the trained gate expected to.
        chance: The posterior's mean.
        shift: By how much its log-odds are moved.
    """

    count: float
    right: float
    expected: float
    chance: float
    shift: float

    @classmethod
    def of(cls, tally: Tally, prior_weight: float) -> Estimate:
        """Of outcomes added up, one at least."""
        expected = tally.expected / tally.count
        chance = (prior_weight * expected + tally.right) / (prior_weight + tally.count)
        shift = log_odds(chance) - log_odds(expected)
        return cls(tally.count, tally.right / tally.count, expected, chance, shift)


def log_odds(chance: float) -> float:
    """Of a probability, kept off 0 and 1."""
    inside = min(max(chance, EDGE), 1 - EDGE)
    return math.log(inside / (1 - inside))


def chance_moved(chance: float, shift: float) -> float:
    """A probability whose log-odds are moved."""
    return chance if not shift else 1 / (1 + math.exp(-log_odds(chance) - shift))


class Beliefs:
    """Estimates of what a store holds, read again when they are older than a second.

    Args:
        store: The store, which other processes may add to.
        prior_weight: How many outcomes the training is worth.
        clock: Monotonic seconds.
    """

    def __init__(
        self, store: OutcomeStore, prior_weight: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._prior_weight, self._clock = store, prior_weight, clock
        self._pending = PendingOutcomes(store, self._expire)
        self._lock = threading.Lock()
        self._fresh_until = -math.inf
        self._held: Mapping[Key, Estimate] = {}
        self._has_failed = False

    def now(self) -> Mapping[Key, Estimate]:
        """What is believed; the same object while nothing was read anew.

        An event loop may ask: a store that cannot be read soon is left alone for some seconds.
        """
        with self._lock:
            if self._clock() >= self._fresh_until:
                read = self._read_soon()
                self._hold(self._held if read is None else read, _FRESH if read is not None else _LEFT_ALONE)
            return self._held

    def known(self) -> Mapping[Key, Estimate]:
        """What is believed, with all that was learned so far; it waits for those who write.

        Raises:
            ConfigurationError: The store cannot be read.
        """
        self.settle()
        read = self._estimates(self._store.tallies())
        with self._lock:
            self._hold(read, _FRESH)
            return self._held

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Keep outcomes.

        Raises:
            ConfigurationError: The store cannot be written.
        """
        if outcomes:
            self._store.keep(outcomes)
            self._expire()

    def learn_later(self, outcomes: Sequence[Outcome]) -> None:
        """Keep outcomes without waiting for the store; what cannot be kept costs a warning."""
        if outcomes:
            self._pending.put(outcomes)

    def settle(self) -> None:
        """Wait for what is to be kept later."""
        self._pending.settle(_PATIENCE)

    def reset(self) -> int:
        """Forget all of them; how many there were.

        Raises:
            ConfigurationError: The store cannot be written.
        """
        self.settle()
        count = self._store.reset()
        self._expire()
        return count

    def _expire(self) -> None:
        with self._lock:
            self._fresh_until = -math.inf

    def _hold(self, read: Mapping[Key, Estimate], seconds: float) -> None:
        self._held = self._held if read == self._held else read
        self._fresh_until = self._clock() + seconds  # from now: the store may have been waited for

    def _read_soon(self) -> Mapping[Key, Estimate] | None:
        """What the store holds; None, and a warning, where it cannot be read: that costs no answer."""
        try:
            read = self._estimates(self._store.tallies(QUICKLY))
        except ConfigurationError as error:
            if not self._has_failed:
                self._has_failed = True
                _logger.warning("%s Until it can, what was read before stands.", error)
            return None
        self._has_failed = False
        return read

    def _estimates(self, tallies: Mapping[Key, Tally]) -> Mapping[Key, Estimate]:
        return {
            key: Estimate.of(tally, self._prior_weight) for key, tally in tallies.items() if tally.count > 0
        }
