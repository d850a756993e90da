"""Who proposes in a layer: by model, by role, by temperature, or one model against itself.

A strategy is a function of the layer's number and the proposers it was given, registered by name; callers may
add their own. It makes no calls and sees no question. `self` is Self-MoA, arXiv 2502.00674: one strong model,
sampled several times.
"""

from __future__ import annotations

import difflib
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from random import Random
from typing import Any, TypeVar, overload

from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.results import Role
from llama_index.packs.mixture_of_agents.spreading import Spread, Temperatures, checked_temperatures, spread

Strategy = Callable[[int, Sequence[Proposer], int], list[Proposer]]
"""(layer from 1, the proposers given, how many are wanted) -> who proposes in that layer."""
Given = TypeVar("Given", bound=Strategy)

FIXED_ROLES = (
    Role(
        name="a domain expert",
        instructions="Be exact: give the facts that settle the matter, and say where it is open.",
    ),
    Role(
        name="a critic",
        instructions="Look for what an easy reply would get wrong or leave out, then reply without it.",
    ),
    Role(
        name="a teacher",
        instructions="Reply so that a newcomer understands: plain words, in order, with one example.",
    ),
    Role(
        name="a strategist",
        instructions="Weigh the alternatives and their consequences before you reply.",
    ),
)
"""Roles for any question, where nobody writes them for one."""
ROLES = tuple(map(str, FIXED_ROLES))
"""The same, as system messages."""
TEMPERATURES = Spread(0.3, 0.9)
_FEWEST = 3
"""Seats the spreading strategies fill when nobody says how many: two views can only disagree."""


def by_model(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
    """Each model as given, in turn until so many are seated."""
    return list(islice(cycle(proposers), wanted))


def by_role(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
    """The models in turn, each under another role; a role of its own stays.

    A seat without one takes the role that is written for the question, and has a fixed one until then.
    """
    seats = zip(islice(cycle(proposers), wanted), cycle(ROLES), strict=False)
    return [
        proposer if proposer.role else proposer.replaced(role=role, takes_role=True)
        for proposer, role in seats
    ]


def by_temperature(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
    """The models in turn, spread evenly over temperatures; a temperature of its own stays."""
    return _spread_over(TEMPERATURES, proposers, wanted)


def by_self(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
    """The first model alone, sampled several times with seeds of their own."""
    first = proposers[0]
    warm = _at(first, 0.7)
    return [warm.replaced(seed=1000 * layer + n) if warm.is_llm else warm for n in range(wanted)]


def temperature_strategy(temperatures: Temperatures) -> Strategy:
    """The strategy that spreads the models over these temperatures.

    Args:
        temperatures: A list, which every model goes through from another place; or bounds to space the seats
            between, as "0.2..1.0" or Spread(0.2, 1.0).

    Raises:
        ConfigurationError: They are no temperatures.
    """
    checked = checked_temperatures(temperatures)

    def by_given_temperature(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
        """The models in turn, over the temperatures given."""
        return _spread_over(checked, proposers, wanted)

    return by_given_temperature


def _spread_over(
    temperatures: Spread | tuple[float, ...], proposers: Sequence[Proposer], wanted: int
) -> list[Proposer]:
    seats = list(islice(cycle(proposers), wanted))
    if isinstance(temperatures, Spread):
        return [_at(seat, value) for seat, value in zip(seats, spread(temperatures, wanted), strict=True)]
    # The n-th model begins at the n-th temperature: in step, two models would never see each other's.
    order = {model: n for n, model in enumerate(dict.fromkeys(id(seat.model) for seat in seats))}
    seen: Counter[int] = Counter()
    seated = []
    for seat in seats:
        model = id(seat.model)
        seated.append(_at(seat, temperatures[(order[model] + seen[model]) % len(temperatures)]))
        seen[model] += 1
    return seated


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
_BUILT_IN = frozenset(STRATEGIES)


@overload
def register_strategy(name: str, function: Given, *, replace: bool = False) -> Given: ...


@overload
def register_strategy(
    name: str, function: None = None, *, replace: bool = False
) -> Callable[[Given], Given]: ...


def register_strategy(name: str, function: Any = None, *, replace: bool = False) -> Any:
    """Make a strategy known by name, in this process; also as a decorator, `@register_strategy("mine")`.

    Args:
        name: What `strategy=` will call it; registered again, the last function counts.
        function: (layer, proposers, wanted) -> list of Proposer.
        replace: Let it take the place of a built-in one.

    Returns:
        The function, or the decorator where none was given.

    Raises:
        ConfigurationError: The name is a built-in strategy's, or the function takes other arguments.
    """
    if function is None:
        return lambda given: register_strategy(name, given, replace=replace)
    _check_name(name)
    if name in _BUILT_IN and not replace:
        raise ConfigurationError(
            f"{name!r} is a built-in strategy; give yours another name, or pass replace=True to put it in "
            "the place of the built-in one."
        )
    if not callable(function):
        raise ConfigurationError(f"The strategy {name!r} must be a function; found {shown(function)}.")
    _check_arguments(function)
    STRATEGIES[name] = function
    return function


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"A strategy's name must be a non-empty text; found {shown(name)}.")


def strategy_named(strategy: object) -> Strategy:
    """The strategy of that name, or the function itself.

    Raises:
        ConfigurationError: No strategy has that name, or the function takes other arguments.
    """
    if callable(strategy):
        _check_arguments(strategy)
        return strategy
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        near = difflib.get_close_matches(strategy, STRATEGIES, n=1) if isinstance(strategy, str) else []
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(
            f"Unknown strategy {shown(strategy)}; use one of {', '.join(map(repr, STRATEGIES))}, a name from "
            f"register_strategy, or a function (layer, proposers, wanted) -> list of Proposer.{hint}"
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


def seats_wanted(
    strategy: str | Strategy,
    proposers: int,
    asked: int | None,
    temperatures: Temperatures | None = None,
) -> int:
    """How many proposers a layer seats: as asked, else one for each given.

    The built-in strategies that spread fill three at least, or one seat for each of the listed temperatures.
    """
    if asked is not None:
        return asked
    if strategy == "model" or callable(strategy) or strategy not in _BUILT_IN:
        return proposers
    if strategy == "temperature" and isinstance(temperatures, (list, tuple)):
        return max(proposers, len(temperatures))
    return max(proposers, _FEWEST)


def picked(proposers: Sequence[Proposer], wanted: int, pick: str, seed: int, layer: int) -> list[Proposer]:
    """Which of the given proposers a strategy gets to seat.

    Args:
        proposers: Those given.
        wanted: How many seats there are.
        pick: "cycle" for all in their order; "sample" for `wanted` drawn ones, nobody a second time before
            all were drawn once.
        seed: The same seed draws the same, in every process.
        layer: From 1; each draws anew.
    """
    if pick == "cycle":
        return list(proposers)
    draw, drawn = Random(f"{seed}/{layer}"), list[Proposer]()
    while len(drawn) < wanted:
        drawn += draw.sample(list(proposers), len(proposers))
    return drawn[:wanted]
