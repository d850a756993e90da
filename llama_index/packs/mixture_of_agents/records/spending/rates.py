"""Prices of a caller's own, checked: USD per million tokens. It knows no models and no lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from llama_index.packs.mixture_of_agents.checks import number, shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_MILLION = 1_000_000
_DEAREST = 1e9


@dataclass(frozen=True)
class Rate:
    """What a model's tokens cost, in USD per million.

    Attributes:
        input: Of tokens read.
        output: Of tokens written.
        cached_input: Of tokens read that the provider had read before; None for the price of `input`.
    """

    input: float
    output: float
    cached_input: float | None = None

    @property
    def is_free(self) -> bool:
        """Whether nothing costs anything, however much it is."""
        return not (self.input or self.output or self.cached_input)

    def cost(self, read: int, written: int, cached: int) -> float:
        """USD of one call; `cached` of the tokens read were read before."""
        again = self.input if self.cached_input is None else self.cached_input
        return ((read - cached) * self.input + cached * again + written * self.output) / _MILLION


def rates_from(overrides: object) -> dict[str, Rate]:
    """A caller's prices, by the name given.

    Raises:
        ConfigurationError: A price is no finite number >= 0, one is missing, or a key is unknown.
    """
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping):
        raise ConfigurationError(
            'prices must be a mapping such as {"gpt-4o": {"input": 2.5, "output": 10}}, in USD per million '
            f"tokens; found {shown(overrides)}."
        )
    return {_name(name): _rate(str(name), given) for name, given in overrides.items()}


def _name(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"prices must be by the name of a model; found {shown(name)}.")
    return name.strip()


def _rate(name: str, given: object) -> Rate:
    if isinstance(given, Rate):
        given = {key: value for key, value in vars(given).items() if value is not None}
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f"The price of {name!r} must be like {{'input': 2.5, 'output': 10}}, in USD per million tokens; "
            f"found {shown(given)}."
        )
    _check_keys(name, given)
    for key, value in given.items():
        number(f"prices[{name!r}][{key!r}]", value, 0, _DEAREST)
    return Rate(**{key: float(value) for key, value in given.items()})


def _check_keys(name: str, given: Mapping[Any, Any]) -> None:
    valid = [field.name for field in fields(Rate)]
    for key in given:
        if key not in valid:
            close = get_close_matches(str(key).lower(), valid, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigurationError(
                f"The price of {name!r} has an unknown key {shown(key)}.{hint} The keys are "
                f"{', '.join(map(repr, valid))}, in USD per million tokens."
            )
    missing = [key for key in ("input", "output") if key not in given]
    if missing:
        raise ConfigurationError(
            f"The price of {name!r} lacks {' and '.join(map(repr, missing))}, in USD per million tokens; 0 "
            "for what costs nothing."
        )
