"""Who proposes in a layer: by model, by role, by temperature, or one model against itself.

A strategy is a function of the layer's number and the proposers it was given. It makes no calls and
sees no question. `self` is Self-MoA, arXiv 2502.00674: one strong model, sampled several times.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import cycle, islice

from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import Proposer

Strategy = Callable[[int, Sequence[Proposer], int], list[Proposer]]
"""(layer from 1, the proposers given, how many are wanted) -> who proposes in that layer."""

ROLES = (
    "You are a domain expert. Be exact: give the facts that settle the matter, and say where it is open.",
    "You are a critic. Look for what an easy reply would get wrong or leave out, then reply without it.",
    "You are a teacher. Reply so that a newcomer understands: plain words, in order, with one example.",
    "You are a strategist. Weigh the alternatives and their consequences before you reply.",
)
TEMPERATURES = (0.3, 0.6, 0.9)
_FEWEST = 3
"""Seats the spreading strategies fill when nobody says how many: two views can only disagree."""


def by_model(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
    """Each model as given, in turn until so many are seated."""
    return list(islice(cycle(proposers), wanted))


def by_role(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
    """The models in turn, each under another role; a role of its own stays."""
    seats = zip(islice(cycle(proposers), wanted), cycle(ROLES), strict=False)
    return [proposer.replaced(role=proposer.role or role) for proposer, role in seats]


def by_temperature(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
    """The models in turn, each at another temperature; a temperature of its own stays."""
    seats = zip(islice(cycle(proposers), wanted), cycle(TEMPERATURES), strict=False)
    return [_at(proposer, temperature) for proposer, temperature in seats]


def by_self(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
    """The first model alone, sampled several times with seeds of their own."""
    first = proposers[0]
    warm = _at(first, 0.7)
    return [warm.replaced(seed=1000 * layer + n) if warm.is_llm else warm for n in range(wanted)]


def _at(proposer: Proposer, temperature: float) -> Proposer:
    if not proposer.is_llm or proposer.sampling.temperature is not None:
        return proposer
    return proposer.replaced(temperature=temperature)


STRATEGIES: dict[str, Strategy] = {
    "model": by_model,
    "role": by_role,
    "temperature": by_temperature,
    "self": by_self,
}


def strategy_named(strategy: object) -> Strategy:
    """The strategy of that name, or the function itself.

    Raises:
        ConfigurationError: No strategy has that name, or the function takes other arguments.
    """
    if callable(strategy):
        _check_arguments(strategy)
        return strategy
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        raise ConfigurationError(
            f"Unknown strategy {shown(strategy)}; use one of {', '.join(map(repr, STRATEGIES))}, or a "
            "function (layer, proposers, wanted) -> list of Proposer."
        )
    return STRATEGIES[strategy]


def _check_arguments(strategy: Strategy) -> None:
    try:
        signature = inspect.signature(strategy)
    except ValueError:  # written in C, it need not have one; the call will show
        return
    try:
        signature.bind(1, [], 1)
    except TypeError as error:
        name = getattr(strategy, "__name__", type(strategy).__name__)
        raise ConfigurationError(
            f"The strategy {name}{signature} cannot be called with (layer, proposers, wanted): {error}. "
            "Give it these three arguments, in this order."
        ) from error


def seats_wanted(strategy: str | Strategy, proposers: int, asked: int | None) -> int:
    """How many proposers a layer seats: as asked, else one for each given (three at least to spread)."""
    if asked is not None:
        return asked
    return proposers if strategy == "model" or callable(strategy) else max(proposers, _FEWEST)
