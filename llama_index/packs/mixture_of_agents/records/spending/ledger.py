"""Money and tokens: what may be spent, what is spent, and what is held back for calls that are out.

A ledger is shared by runs in any thread; each holds something back under its own name. Nothing is held
that would pass the limit. This module knows no calls and no prices.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

_ROUNDING = 1e-12
"""USD that sums of floats may be off."""


@dataclass(frozen=True)
class Amount:
    """So much.

    Attributes:
        usd: US dollars.
        tokens: Tokens read and written.
    """

    usd: float = 0.0
    tokens: float = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.usd + other.usd, self.tokens + other.tokens)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.usd - other.usd, self.tokens - other.tokens)

    def fits(self, room: Amount) -> bool:
        """Whether it is no more than `room`, in either."""
        return self.usd <= room.usd + _ROUNDING and self.tokens <= room.tokens

    def least(self, other: Amount) -> Amount:
        """The smaller of the two, in each."""
        return Amount(min(self.usd, other.usd), min(self.tokens, other.tokens))

    def most(self, other: Amount) -> Amount:
        """The larger of the two, in each."""
        return Amount(max(self.usd, other.usd), max(self.tokens, other.tokens))

    def __str__(self) -> str:
        parts = [dollars(self.usd)] if math.isfinite(self.usd) else []
        parts += [f"{self.tokens:.0f} tokens"] if math.isfinite(self.tokens) else []
        return " and ".join(parts) or "no limit"


NOTHING = Amount()
UNLIMITED = Amount(math.inf, math.inf)


def dollars(usd: float) -> str:
    """An amount for a person: two figures behind the first that is not 0, cents at least."""
    if usd <= 0:
        return "$0" if usd == 0 else f"-{dollars(-usd)}"
    digits = max(2, 2 - math.floor(math.log10(usd)))
    return f"${usd:.{digits}f}"


def rounded_up(amount: Amount) -> Amount:
    """At least as much, in round figures: what a person can type."""
    if amount.usd <= 0 or not math.isfinite(amount.usd):
        return Amount(amount.usd, math.ceil(amount.tokens) if math.isfinite(amount.tokens) else math.inf)
    unit = 10.0 ** (math.floor(math.log10(amount.usd)) - 2)
    usd = float(f"{(math.floor(amount.usd / unit) + 1) * unit:.12g}")
    return Amount(usd, math.ceil(amount.tokens) if math.isfinite(amount.tokens) else math.inf)


class Ledger:
    """What may be spent, and by whom it is spoken for.

    Args:
        limit: Most that may be spent.
    """

    def __init__(self, limit: Amount) -> None:
        self.limit = limit
        self._spent = NOTHING
        self._held: dict[str, Amount] = {}
        self._lock = threading.Lock()

    @property
    def spent(self) -> Amount:
        """What is spent."""
        return self._spent

    def held(self, name: str) -> Amount:
        """What is held back for `name`."""
        with self._lock:
            return self._held.get(name, NOTHING)

    def room(self, name: str) -> Amount:
        """What `name` may have in all, what it holds already among it."""
        with self._lock:
            return self._room(name)

    def hold(self, name: str, amount: Amount) -> bool:
        """Hold so much back for `name`, in place of what it held; False, and no change, where there is not.

        Less than it held is always there.
        """
        with self._lock:
            before = self._held.get(name)
            if not (amount.fits(self._room(name)) or (before is not None and amount.fits(before))):
                return False
            self._held[name] = amount
            return True

    def spend(self, name: str, amount: Amount) -> None:
        """Take down what was spent, out of what `name` holds."""
        with self._lock:
            self._spent = self._spent + amount
            left = self._held.get(name, NOTHING) - amount
            self._held[name] = left.most(NOTHING)

    def correct(self, amount: Amount) -> None:
        """Something taken down as spent turned out to be another amount: add the difference."""
        with self._lock:
            self._spent = self._spent + amount

    def release(self, name: str) -> None:
        """Hold nothing back for `name` any more."""
        with self._lock:
            self._held.pop(name, None)

    def _room(self, name: str) -> Amount:
        others = [held for holder, held in self._held.items() if holder != name]
        return self.limit - self._spent - sum(others, NOTHING)
