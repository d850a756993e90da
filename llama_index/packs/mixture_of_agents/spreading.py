"""Temperatures for several seats: a list of them, or bounds to space the seats between.

It knows numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TypeAlias

from llama_index.packs.mixture_of_agents.checks import number, shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_BETWEEN = ".."
_PLACES = 4


@dataclass(frozen=True)
class Spread:
    """Temperatures between two bounds.

    Args:
        low: The lowest, 0 to 2.
        high: The highest, above `low`, to 2.

    Raises:
        ConfigurationError: They are no such numbers.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        number("The lower bound of temperatures", self.low, 0, 2)
        number("The upper bound of temperatures", self.high, 0, 2)
        if self.low >= self.high:
            raise ConfigurationError(
                f"Temperatures must rise from the lower bound to the upper one; found {self.low:g} and "
                f"{self.high:g}. Swap them, or pass temperature= for one value everywhere."
            )

    def __str__(self) -> str:
        return f"{self.low:g}{_BETWEEN}{self.high:g}"

    def values(self, count: int) -> list[float]:
        """So many temperatures, the bounds among them, evenly apart; a single one is in the middle."""
        if count == 1:
            return [round((self.low + self.high) / 2, _PLACES)]
        step = (self.high - self.low) / max(count - 1, 1)
        # Rounded for the eye, unless so many seats are so close that two would become one.
        places = _PLACES if step > 2 * 10**-_PLACES else 15
        return [round(self.low + n * step, places) for n in range(count)]


Temperatures: TypeAlias = Sequence[float] | str | Spread
"""A list, or bounds: "0.2..1.0" or a Spread."""


def checked_temperatures(temperatures: object) -> Spread | tuple[float, ...]:
    """Temperatures as bounds or values.

    Raises:
        ConfigurationError: They are neither.
    """
    if isinstance(temperatures, Spread):
        return temperatures
    if isinstance(temperatures, str):
        return _bounds(temperatures)
    if not isinstance(temperatures, (list, tuple)) or not temperatures:
        raise ConfigurationError(
            "temperatures must be a non-empty list of numbers between 0 and 2, or bounds such as "
            f"'0.2..1.0'; found {shown(temperatures)}."
        )
    for value in temperatures:
        number("Each of temperatures", value, 0, 2)
    return tuple(temperatures)


def spread(temperatures: Temperatures, wanted: int) -> list[float]:
    """So many temperatures: of a list in turn, of bounds evenly apart.

    Raises:
        ConfigurationError: They are neither.
    """
    checked = checked_temperatures(temperatures)
    return checked.values(wanted) if isinstance(checked, Spread) else list(islice(cycle(checked), wanted))


def _bounds(written: str) -> Spread:
    try:
        low, high = map(float, written.split(_BETWEEN))
    except ValueError:
        raise ConfigurationError(
            f"The bounds of temperatures are written as '0.2..1.0'; found {shown(written)}. Write them so, "
            "or pass a list of numbers."
        ) from None
    return Spread(low, high)
