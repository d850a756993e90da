"""Seating: from models and a strategy to who sits in each layer.

Everything that can be wrong with it is found here, before any call. It knows no question.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.packs.mixture_of_agents.calls.layouts import prefix_sharers
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.checks import shown, whole_number
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import as_proposers
from llama_index.packs.mixture_of_agents.seats.seat import Seat
from llama_index.packs.mixture_of_agents.spreading import Temperatures
from llama_index.packs.mixture_of_agents.strategies import (
    Strategy,
    picked,
    seats_wanted,
    strategy_named,
    temperature_strategy,
)

PICKS = ("cycle", "sample")


@dataclass(frozen=True)
class Seating:
    """How a layer's seats are filled.

    Attributes:
        strategy: A strategy's name, or the function itself.
        temperatures: For the strategy "temperature"; None for its usual ones.
        pick: Which of the given models sit, where another number of them is wanted: "cycle" or "sample".
        pick_seed: What is drawn by "sample".
        writes_roles: Roles are to be written for the question; else those of the strategy stand.
        defaults: Settings, where a proposer's own say nothing.
    """

    strategy: str | Strategy = "model"
    temperatures: Temperatures | None = None
    pick: str = "cycle"
    pick_seed: int = 0
    writes_roles: bool = True
    defaults: Sampling = field(default_factory=Sampling)

    def function(self) -> Strategy:
        """The strategy as a function.

        Raises:
            ConfigurationError: There is no such strategy, or what is given does not fit it.
        """
        if self.temperatures is None:
            return strategy_named(self.strategy)
        if self.strategy != "temperature":
            raise ConfigurationError(
                f"temperatures belong to strategy='temperature'; found strategy={shown(self.strategy)}. Pass "
                "that strategy, or temperature= for one value everywhere."
            )
        return temperature_strategy(self.temperatures)

    def check(self) -> None:
        """Refuse what cannot work, whatever the models are."""
        self.function()
        if self.pick not in PICKS:
            raise ConfigurationError(f"pick must be 'cycle' or 'sample'; found {shown(self.pick)}.")
        whole_number("pick_seed", self.pick_seed)

    def layer(self, number: int, models: Sequence[Any], asked: int | None) -> tuple[Seat, ...]:
        """Fill one layer's seats.

        Args:
            number: The layer, from 1.
            models: LLMs, agents and proposers to choose from.
            asked: How many seats the caller wants; None for as many as the strategy fills.
        """
        given = as_proposers(models)
        wanted = seats_wanted(self.strategy, len(given), asked, self.temperatures)
        chosen = self.function()(number, picked(given, wanted, self.pick, self.pick_seed, number), wanted)
        _check_chosen(number, chosen)
        seated = as_proposers(chosen)
        if not self.writes_roles:
            seated = [who.replaced(takes_role=False) if who.takes_role else who for who in seated]
        sharing = prefix_sharers([proposer.model for proposer in seated])
        return tuple(Seat.of(who, self.defaults, shares) for who, shares in zip(seated, sharing, strict=True))


def seat_layers(
    seating: Seating, proposers: Any, num_layers: int, nb_models_by_layer: int | Sequence[int] | None
) -> tuple[tuple[Seat, ...], ...]:
    """Fill every layer but the last, which is the aggregator's.

    Raises:
        ConfigurationError: The models, their number, or the strategy cannot work.
    """
    seating.check()
    rounds = _rounds(proposers, num_layers)
    wanted = _wanted(nb_models_by_layer, num_layers - 1)
    return tuple(
        seating.layer(number, models, asked)
        for number, (models, asked) in enumerate(zip(rounds, wanted, strict=True), 1)
    )


def _rounds(proposers: Any, num_layers: int) -> list[list[Any]]:
    """The models of each round, from one list for all rounds or one list each."""
    if num_layers == 1:
        return []
    given = list(proposers) if isinstance(proposers, (list, tuple)) else []
    if not given:
        raise ConfigurationError(
            "reference_llms must be a non-empty list of LLMs, agents or Proposers; found "
            f"{shown(proposers)}. Pass at least one, or num_layers=1 for the aggregator alone; a single one "
            "goes into a list, too."
        )
    if not any(isinstance(entry, (list, tuple)) for entry in given):
        return [given] * (num_layers - 1)
    rounds = num_layers - 1
    if len(given) != rounds or not all(isinstance(entry, (list, tuple)) and entry for entry in given):
        raise ConfigurationError(
            f"num_layers={num_layers} means {rounds} rounds of proposers and the synthesis. Pass one list "
            f"of proposers for all rounds, or {rounds} non-empty lists; found {len(given)} entries."
        )
    return [list(entry) for entry in given]


def _wanted(nb_models_by_layer: Any, rounds: int) -> list[int | None]:
    if nb_models_by_layer is None:
        return [None] * rounds
    single = not isinstance(nb_models_by_layer, (list, tuple))
    counts = [nb_models_by_layer] * rounds if single else list(nb_models_by_layer)
    if len(counts) != rounds:
        raise ConfigurationError(
            "nb_models_by_layer must be one number for all rounds, or a list of one for each of the "
            f"{rounds} rounds; found {len(counts)} of them."
        )
    for count in counts:
        whole_number("nb_models_by_layer", count, 1, hint="Pass one number, or a list of one for each round.")
    return counts


def _check_chosen(layer: int, chosen: object) -> None:
    """Refuse what a strategy of the caller's own should not have returned."""
    if inspect.iscoroutine(chosen):
        chosen.close()  # else Python warns that nobody awaited it
    if not isinstance(chosen, (list, tuple)):
        raise ConfigurationError(
            f"The strategy returned {shown(chosen)} for layer {layer}; it must return a list of Proposer."
        )
    if not chosen:
        raise ConfigurationError(f"The strategy seated nobody in layer {layer}; it must return a proposer.")
