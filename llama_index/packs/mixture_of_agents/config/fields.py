"""The kinds of values in a configuration, each with the check that a pack's own arguments get.

It knows no table and no key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator

from llama_index.packs.mixture_of_agents.answers.extracting import extractor_named
from llama_index.packs.mixture_of_agents.checks import number, seconds, shown, text, whole_number
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.records.spending.degrading import MEASURES
from llama_index.packs.mixture_of_agents.spreading import checked_temperatures

UNLIMITED = "none"
"""How TOML, which has no null, says that there is no limit."""


def _held(check: Callable[..., None], *bounds: float, **words: Any) -> BeforeValidator:
    """A check of `checks`, with the name left to whoever knows the whole place."""

    def passed(value: object) -> object:
        check("", value, *bounds, **words)
        return value

    return BeforeValidator(passed)


def one_of(*names: str) -> BeforeValidator:
    """Only these texts."""

    def passed(value: object) -> object:
        if value not in names:
            raise ConfigurationError(f" must be one of {', '.join(map(repr, names))}; found {shown(value)}.")
        return value

    return BeforeValidator(passed)


def _unlimited(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == UNLIMITED else value


def _counts(value: object) -> object:
    hint = "Give one number, or a list of one for each round."
    for count in value if isinstance(value, (list, tuple)) else [value]:
        whole_number("", count, 1, none="for all that are given", hint=hint)
    return value


def _measures(value: object) -> object:
    valid = isinstance(value, (list, tuple)) and all(measure in MEASURES for measure in value)
    if value is None or valid:
        return value
    raise ConfigurationError(f" must be a list of {', '.join(map(repr, MEASURES))}; found {shown(value)}.")


def _extractor(value: object) -> object:
    if value is not None:
        if not isinstance(value, str):
            raise ConfigurationError(f" must be an extractor's name; found {shown(value)}.")
        extractor_named(value)
    return value


def _required(value: object) -> object:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f" must be a non-empty text; found {shown(value)}.")
    return value


def _table(value: object) -> object:
    if not isinstance(value, dict):
        raise ConfigurationError(f" must be a table; found {shown(value)}.")
    _without_null(value)
    return value


def _without_null(value: object) -> None:
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if any(item is None for item in held):
        raise ConfigurationError(" holds null; leave out what has no value.")
    for item in held:
        _without_null(item)


def _weights(value: object) -> object:
    if value is None:
        return value
    if not isinstance(value, dict) or not value:
        raise ConfigurationError(f" must be a table of numbers, by proposers' names; found {shown(value)}.")
    for name, weight in value.items():
        number(f".{name}", weight, 0, 1e12)
    return value


def _spread(value: object) -> object:
    if value is not None:
        checked_temperatures(value)
    return value


def _above_zero(value: object) -> object:
    number("", value, 0, 1, none="for the usual one")
    if value == 0:
        raise ConfigurationError(" must be above 0, or anything would agree; found 0.")
    return value


def _flag(value: object) -> object:
    if not isinstance(value, bool):
        raise ConfigurationError(f" must be true or false; found {shown(value)}.")
    return value


_amount = partial(_held, number)

Name = Annotated[str, BeforeValidator(_required)]
OptionalName = Annotated[str | None, _held(text)]
Role = Annotated[str | None, _held(text, or_empty=True)]
Temperature = Annotated[float | None, _amount(0, 2, none="for the model's own")]
Tokens = Annotated[int | None, _held(whole_number, 1, none="for the model's own")]
Seed = Annotated[int | None, _held(whole_number, none="for none")]
Layers = Annotated[
    int,
    _held(whole_number, 1, hint="3 means two rounds of proposers and the synthesis, 1 the aggregator alone."),
]
Whole = Annotated[int, _held(whole_number)]
Retries = Annotated[int, _held(whole_number, 0)]
Count = Annotated[int | None, _held(whole_number, 1, none="for no limit")]
Counts = Annotated[int | tuple[int, ...] | None, BeforeValidator(_counts)]
Seconds = Annotated[float | None, _held(seconds, none="for no limit"), BeforeValidator(_unlimited)]
Grace = Annotated[float, _held(seconds, or_zero=True)]
Share = Annotated[float | None, BeforeValidator(_above_zero)]
Window = Annotated[int | None, _held(whole_number, 2, none="for the usual one")]
Limit = Annotated[float | None, _amount(0, 1e9, none="for no limit")]
Flag = Annotated[bool, BeforeValidator(_flag)]
BudgetShare = Annotated[float | None, _amount(0, 1, none="for no limit")]
Extract = Annotated[str | None, BeforeValidator(_extractor)]
Measures = Annotated[tuple[str, ...] | None, BeforeValidator(_measures)]
Margin = Annotated[float | None, _amount(1, 10, none="for a token for each byte")]
Settings = Annotated[dict[str, Any], BeforeValidator(_table)]
Weights = Annotated[dict[str, float] | None, BeforeValidator(_weights)]
Temperatures = Annotated[tuple[float, ...] | str | None, BeforeValidator(_spread)]
Price = Annotated[float, _amount(0, 1e9)]
OptionalPrice = Annotated[float | None, _amount(0, 1e9, none="for that of input")]
