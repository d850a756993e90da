"""How fast a run goes, and whether there is time for another round of it, by a clock that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llama_index.packs.mixture_of_agents.facts import MixtureFacts


@dataclass
class Pace:
    """A run's time.

    Attributes:
        facts: The mixture.
        seconds: For the whole run; None for no limit.
        clock: Monotonic seconds.
        began: When the run did.
    """

    facts: MixtureFacts
    seconds: float | None
    clock: Callable[[], float]
    began: float
    _rounds: dict[int, tuple[float, float]] = field(default_factory=dict)
    _longest_call: float = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.began

    def asks(self, layer: int) -> None:
        """A proposer of that round is asked."""
        now = self.elapsed
        first, _ = self._rounds.get(layer, (now, now))
        self._rounds[layer] = (first, now)

    def answers(self, layer: int, seconds: float) -> None:
        """A proposer of that round is back, after so many seconds."""
        now = self.elapsed
        first, _ = self._rounds.get(layer, (now, now))
        self._rounds[layer] = (first, now)
        self._longest_call = max(self._longest_call, seconds)

    def too_late_for(self, layer: int) -> str:
        """Why a further round is not begun; empty where there is time for it and for the answer.

        It is taken to last as long as the longest so far, and the answer as long as the longest call; a
        round no longer than its timeout. The first round is always begun.
        """
        if self.seconds is None or layer == 1:
            return ""
        lasting = max((end - begin for begin, end in self._rounds.values()), default=0.0)
        if self.facts.layer_timeout is not None:
            lasting = min(lasting, self.facts.layer_timeout)
        needed = lasting + self._longest_call
        if self.elapsed + needed <= self.seconds:
            return ""
        return (
            f"{self.elapsed:.3g} s of {self.seconds:g} s are over, and a round and the answer have taken "
            f"{needed:.3g} s"
        )
