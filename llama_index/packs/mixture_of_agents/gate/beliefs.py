"""What is believed of proposers and stages, given what came true: Beta-Bernoulli posteriors.

The prior is worth so many outcomes that come out as the trained gate expected, and each outcome is worth one
(Gelman et al., Bayesian Data Analysis, 3rd ed., 2.1 and 2.4). It knows neither gates nor answers.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.outcomes import Key, Outcome, OutcomeStore, Tally

_logger = logging.getLogger(__name__)

EDGE = 1e-6
"""No chance is taken to be nearer to 0 or to 1."""
_FRESH = 1.0


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
        self._read_at = -math.inf
        self._held: Mapping[Key, Estimate] = {}

    def now(self) -> Mapping[Key, Estimate]:
        """What is believed; the same object while nothing was read anew."""
        at = self._clock()
        if at - self._read_at >= _FRESH:
            self._read_at = at
            read = self._read()
            self._held = self._held if read is None or read == self._held else read
        return self._held

    def learn(self, outcomes: list[Outcome]) -> None:
        """Keep outcomes."""
        if outcomes:
            self._store.keep(outcomes)
            self._read_at = -math.inf

    def reset(self) -> int:
        """Forget all of them; how many there were."""
        self._read_at = -math.inf
        return self._store.reset()

    def _read(self) -> Mapping[Key, Estimate] | None:
        """What the store holds; None, and a warning, where it cannot be read: that costs no answer."""
        try:
            tallies = self._store.tallies()
        except ConfigurationError as error:
            _logger.warning("%s What was read before stands.", error)
            return None
        return {
            key: Estimate.of(tally, self._prior_weight) for key, tally in tallies.items() if tally.count > 0
        }
