"""Who is who for a gate: the models it was made for, what they cost, who is asked together.

Pure. It knows nothing of questions or answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.packs.mixture_of_agents.checks import number, whole_number
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.ballots import Case, Panel

_CHEAP = 0.25
"""Who together costs up to this share of the dearest model's price is asked at once: waiting costs, too."""
_DEAREST_CALL = 1e6


@dataclass(frozen=True)
class Order:
    """The models in the order they are asked.

    Attributes:
        models: The cheapest first.
        costs: US dollars for a call, of those whose cost is known.
        accuracies: How often each one's extracted answer was right, of the questions it answered.
        by: What the order rests on: "cost", or "accuracy" where some cost is not known.
    """

    models: Panel
    costs: Mapping[str, float]
    accuracies: Mapping[str, float]
    by: str

    @property
    def dearest(self) -> str:
        """The last to be asked."""
        return self.models[-1]

    def facts(self) -> dict[str, Any]:
        """What of it is kept with a gate, as JSON."""
        return {"order_by": self.by, "costs": dict(self.costs), "accuracies": dict(self.accuracies)}


def ordered(cases: Sequence[Case], models: Sequence[str], costs: Mapping[str, float]) -> Order:
    """Put models in order: by cost where all costs are known, else the one most often right last.

    Args:
        cases: Questions they answered.
        models: Their names.
        costs: US dollars for a call, by name.

    Raises:
        ConfigurationError: A cost is no such number, or of a model that answered nothing.
    """
    check_costs(costs, models)
    accuracies = {name: _accuracy(cases, name) for name in models}
    is_known = all(name in costs for name in models)
    # By name at last, so that an order never hangs on the order of a file's lines.
    key = {name: (costs[name] if is_known else 0.0, accuracies[name], name) for name in models}
    return Order(
        tuple(sorted(models, key=key.__getitem__)),
        dict(costs),
        accuracies,
        "cost" if is_known else "accuracy",
    )


def check_costs(costs: Mapping[str, float], models: Sequence[str]) -> None:
    """Refuse costs that cannot be reckoned with.

    Raises:
        ConfigurationError: A cost is no such number, or of somebody else.
    """
    for name, cost in costs.items():
        number(f"The cost of {name}", cost, 0, _DEAREST_CALL)
        if name not in models:
            raise ConfigurationError(
                f"There is a cost for {name!r}, who answers nothing here. Those who do: {', '.join(models)}."
            )


def groups_of(order: Order, first: int | None = None) -> list[Panel]:
    """Who is asked together: the cheap few at once, then one after another.

    Args:
        order: The models.
        first: How many of the cheapest at once. None takes as many as together cost a quarter of the
            dearest; where costs are not known, all but the dearest.

    Raises:
        ConfigurationError: `first` is no whole number >= 1.
    """
    whole_number("first", first, 1, none="for as many as are cheap")
    models = order.models
    count = max(1, min(first if first is not None else _cheap(order), len(models) - 1))
    return [models[:count], *((name,) for name in models[count:])]


def check_fit(made_for: Sequence[str], names: Sequence[str]) -> None:
    """Refuse proposers that a gate knows nothing of.

    Raises:
        ConfigurationError: There are such.
    """
    unknown = [name for name in names if name not in made_for]
    if unknown:
        raise ConfigurationError(
            f"This gate was made for {', '.join(made_for)}; it knows nothing of {', '.join(unknown)}. Name "
            "the proposers as they were named in training, or train a gate on their answers: moa gate train."
        )


def check_same(made_for: Sequence[str], names: Sequence[str]) -> None:
    """Refuse proposers that are not those a gate was made for.

    Raises:
        ConfigurationError: Some are unknown to it, or some of its own are not there.
    """
    check_fit(made_for, names)
    absent = [name for name in made_for if name not in names]
    if absent:
        raise ConfigurationError(
            f"This gate was made for {', '.join(made_for)}; {', '.join(absent)} would not be there. Add them "
            "to the mixture, or train a gate without them: moa gate train."
        )


def _cheap(order: Order) -> int:
    if order.by != "cost":
        return len(order.models) - 1
    spent, count = 0.0, 0
    for name in order.models[:-1]:
        spent += order.costs[name]
        count += spent <= _CHEAP * order.costs[order.dearest]
    return max(count, 2)


def _accuracy(cases: Sequence[Case], name: str) -> float:
    answered = [case for case in cases if name in case.sample.responses]
    return sum(case.is_right(name) for case in answered) / len(answered) if answered else 0.0
