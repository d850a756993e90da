"""The price list of genai-prices: what its providers ask now, and the most they ask on a day.

Its data is in its package, half a megabyte that is loaded when the first price is asked for; nothing is
fetched. Where the list has no price for text there is none, which is not the same as 0. It knows no LLM
classes and no prices of a caller's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

_MILLION = 1_000_000


class Listed(NamedTuple):
    """A model in the list, by the provider's name and its own."""

    provider: str
    model: str


class Tokens(NamedTuple):
    """What a call used; `cached` are part of those read, `thinking` of those written."""

    read: int
    written: int
    cached: int = 0
    thinking: int = 0


def listed_cost(listed: Listed, tokens: Tokens, when: datetime) -> float | None:
    """USD of one call at a time with its zone; None where the list has no price for text."""
    priced = _priced(listed, tokens, when)
    if priced is None:
        return None
    sells_text = priced.model_price.input_mtok is not None and priced.model_price.output_mtok is not None
    return float(priced.total_price) if sells_text else None


def dearest_cost(listed: Listed, read: int, written: int, when: datetime) -> float | None:
    """USD of one call at the dearest hour of that day, cached or not; None as above."""
    dearest = _prices_of_day(listed, when.replace(hour=0, minute=0, second=0, microsecond=0))
    return max((price.cost(read, written) for price in dearest), default=None)


@dataclass(frozen=True)
class _Ceiling:
    """The highest prices at some hour, in USD per million tokens: (from so many tokens read, price) each."""

    input: tuple[tuple[int, float], ...]
    output: tuple[tuple[int, float], ...]
    call: float

    def cost(self, read: int, written: int) -> float:
        """USD of one call."""
        return self.call + (read * _at(self.input, read) + written * _at(self.output, read)) / _MILLION


def _at(steps: Iterable[tuple[int, float]], read: int) -> float:
    """The highest price that a prompt of at most so many tokens can meet."""
    return max(price for start, price in steps if start < read or start == 0)


@lru_cache(maxsize=256)
def _prices_of_day(listed: Listed, day: datetime) -> frozenset[_Ceiling]:
    found = [_priced(listed, Tokens(0, 0), day.replace(hour=hour)) for hour in range(24)]
    ceilings = [_ceiling(priced) for priced in found if priced is not None]
    return frozenset(ceiling for ceiling in ceilings if ceiling is not None)


def _ceiling(priced: Any) -> _Ceiling | None:
    price = priced.model_price
    if price.input_mtok is None or price.output_mtok is None:
        return None
    read = (*_steps(price.input_mtok), *_steps(price.cache_read_mtok))
    return _Ceiling(read, tuple(_steps(price.output_mtok)), float(priced.total_price))


def _steps(price: Any) -> list[tuple[int, float]]:
    """A price, or one that depends on the length of the prompt, as steps."""
    if price is None:
        return []
    if hasattr(price, "tiers"):
        return [(0, float(price.base)), *((tier.start, float(tier.price)) for tier in price.tiers)]
    return [(0, float(price))]


def _priced(listed: Listed, tokens: Tokens, when: datetime) -> Any:
    from genai_prices import Usage, calc_price

    counts = {"input_tokens": tokens.read, "output_tokens": tokens.written}
    counts |= {"cache_read_tokens": tokens.cached} if tokens.cached else {}
    counts |= {"output_reasoning_tokens": tokens.thinking} if tokens.thinking else {}
    try:
        return calc_price(
            Usage(**counts), listed.model, provider_id=listed.provider, genai_request_timestamp=when
        )
    except LookupError:
        return None
