"""A mixture, checked and seated: who sits in which layer, who aggregates, how long is waited.

Everything that can be wrong with a mixture is found here, before any call. It knows no question.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypedDict

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.endpoint import Endpoint
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import (
    CallPolicy,
    Proposer,
    as_proposers,
    check_sampling,
)
from llama_index.packs.mixture_of_agents.rounds import RoundLimits
from llama_index.packs.mixture_of_agents.sampling import Sampling
from llama_index.packs.mixture_of_agents.strategies import Strategy, seats_wanted, strategy_named


class MixtureOptions(TypedDict, total=False):
    """The options of a mixture, by name; `MixtureOfAgentsPack` describes each."""

    num_layers: int
    max_tokens: int | None
    temperature: float | None
    timeout: float | None
    strategy: str | Strategy
    nb_models_by_layer: int | Sequence[int] | None
    finish: str
    gate: None
    budget: None
    trace: None
    quorum: int | None
    quorum_grace: float
    layer_timeout: float | None
    max_concurrency: int | None
    max_retries: int
    policies: Sequence[CallPolicy]


@dataclass(frozen=True)
class Seat:
    """A proposer in its place: the way to call it, with all settings resolved."""

    proposer: Proposer
    sampling: Sampling
    endpoint: Endpoint

    @classmethod
    def of(cls, proposer: Proposer, defaults: Sampling) -> Seat:
        """Seat a proposer, with `defaults` where its own settings say nothing."""
        return cls(proposer, proposer.sampling.over(defaults), proposer.endpoint(defaults))

    @property
    def name(self) -> str:
        """The proposer's name."""
        return self.proposer.name

    def described(self) -> dict[str, Any]:
        """What makes this seat what it is, as JSON."""
        return {"name": self.name, "role": self.proposer.role, **self.sampling.given()}


@dataclass(frozen=True)
class Mixture:
    """A checked mixture. Build it with `seat_mixture`.

    Attributes:
        layers: The seats of each round of proposers; one round fewer than `num_layers`.
        aggregator: Who writes the answer.
        limits: How long a round waits.
        timeout: Seconds for a whole run; None for no limit.
        max_concurrency: Calls in flight; None for no limit.
        max_retries: Tries after the first, for transient failures.
        policies: Asked before and told after each call.
    """

    layers: tuple[tuple[Seat, ...], ...]
    aggregator: Seat
    limits: RoundLimits
    timeout: float | None
    max_concurrency: int | None
    max_retries: int
    policies: tuple[CallPolicy, ...]

    @property
    def num_layers(self) -> int:
        """Rounds of proposers and the synthesis, as the paper counts."""
        return len(self.layers) + 1

    @property
    def width(self) -> int:
        """Most proposers of any layer."""
        return max((len(layer) for layer in self.layers), default=1)

    def fingerprint(self, messages: Sequence[ChatMessage]) -> str:
        """Names this mixture asked this question: equal for equal ones, across processes."""
        seats = [[seat.described() for seat in layer] for layer in self.layers]
        asked = [message.model_dump(mode="json") for message in messages]
        text = json.dumps([seats, self.aggregator.described(), asked], sort_keys=True, default=str)
        return sha256(text.encode()).hexdigest()


def seat_mixture(
    proposers: Any,
    aggregator: Any,
    *,
    num_layers: int = 3,
    max_tokens: int | None = None,
    temperature: float | None = None,
    timeout: float | None = 200,
    strategy: str | Strategy = "model",
    nb_models_by_layer: int | Sequence[int] | None = None,
    finish: str = "synthesize",
    gate: None = None,
    budget: None = None,
    trace: None = None,
    quorum: int | None = None,
    quorum_grace: float = 0.0,
    layer_timeout: float | None = None,
    max_concurrency: int | None = None,
    max_retries: int = 2,
    policies: Sequence[CallPolicy] = (),
) -> Mixture:
    """Check everything, then seat everyone. `MixtureOfAgentsPack` describes the arguments.

    Raises:
        ConfigurationError: Anything that cannot work.
    """
    _check_counts(num_layers, quorum, quorum_grace, max_concurrency, max_retries)
    _check_seconds(timeout=timeout, layer_timeout=layer_timeout)
    _check_reserved(finish, gate=gate, budget=budget, trace=trace)
    defaults = Sampling(temperature=temperature, max_tokens=max_tokens)
    check_sampling(defaults)
    rounds = _rounds(proposers, num_layers)
    wanted = _wanted(nb_models_by_layer, num_layers - 1)
    layers = tuple(
        _seat_layer(layer, models, strategy, asked, defaults)
        for layer, (models, asked) in enumerate(zip(rounds, wanted, strict=True), 1)
    )
    _check_quorum(quorum, layers)
    chosen = aggregator if isinstance(aggregator, Proposer) else Proposer(aggregator)
    return Mixture(
        layers=layers,
        aggregator=Seat.of(chosen, defaults),
        limits=RoundLimits(quorum, quorum_grace, layer_timeout),
        timeout=timeout,
        max_concurrency=max_concurrency,
        max_retries=max_retries,
        policies=tuple(policies),
    )


def _rounds(proposers: Any, num_layers: int) -> list[list[Any]]:
    """The models of each round, from one list for all rounds or one list each."""
    if num_layers == 1:
        return []
    given = list(proposers) if isinstance(proposers, (list, tuple)) else []
    if not given:
        raise ConfigurationError(
            f"reference_llms must be a non-empty list of LLMs, agents or Proposers; found {proposers!r}. "
            "Pass at least one, or num_layers=1 for the aggregator alone."
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


def _wanted(nb_models_by_layer: int | Sequence[int] | None, rounds: int) -> list[int | None]:
    if nb_models_by_layer is None:
        return [None] * rounds
    counts = (
        [nb_models_by_layer] * rounds if isinstance(nb_models_by_layer, int) else list(nb_models_by_layer)
    )
    if len(counts) != rounds or any(count < 1 for count in counts):
        raise ConfigurationError(
            f"nb_models_by_layer must be a number >= 1, or one for each of the {rounds} rounds; "
            f"found {nb_models_by_layer!r}."
        )
    return list(counts)


def _seat_layer(
    layer: int, models: Sequence[Any], strategy: str | Strategy, asked: int | None, defaults: Sampling
) -> tuple[Seat, ...]:
    given = as_proposers(models)
    chosen = strategy_named(strategy)(layer, given, seats_wanted(strategy, len(given), asked))
    if not chosen:
        raise ConfigurationError(f"The strategy seated nobody in layer {layer}; it must return a proposer.")
    return tuple(Seat.of(proposer, defaults) for proposer in as_proposers(chosen))


def _check_counts(
    num_layers: int, quorum: int | None, grace: float, max_concurrency: int | None, max_retries: int
) -> None:
    if type(num_layers) is not int or num_layers < 1:
        raise ConfigurationError(
            f"num_layers must be a whole number >= 1; found {num_layers!r}. 3 means two rounds of "
            "proposers and the synthesis, 1 the aggregator alone."
        )
    if quorum is not None and quorum < 1:
        raise ConfigurationError(f"quorum must be >= 1, or None to wait for all; found {quorum}.")
    if not grace >= 0:
        raise ConfigurationError(f"quorum_grace must be >= 0 seconds; found {grace}.")
    if max_concurrency is not None and max_concurrency < 1:
        raise ConfigurationError(
            f"max_concurrency must be >= 1, or None for no limit; found {max_concurrency}."
        )
    if max_retries < 0:
        raise ConfigurationError(f"max_retries must be >= 0; found {max_retries}.")


def _check_quorum(quorum: int | None, layers: Sequence[Sequence[Seat]]) -> None:
    fewest = min((len(layer) for layer in layers), default=None)
    if quorum is not None and fewest is not None and quorum > fewest:
        raise ConfigurationError(
            f"quorum is {quorum}, but a round has only {fewest} proposers. "
            f"Use a quorum of at most {fewest}, or None to wait for all."
        )


def _check_seconds(**seconds: float | None) -> None:
    for name, value in seconds.items():
        if value is not None and not value > 0:
            raise ConfigurationError(f"{name} must be > 0 seconds, or None for no limit; found {value}.")


def _check_reserved(finish: str, **reserved: object) -> None:
    if finish != "synthesize":
        raise ConfigurationError(
            f"finish must be 'synthesize', the only way to finish so far; found {finish!r}."
        )
    for name, value in reserved.items():
        if value is not None:
            raise ConfigurationError(f"{name} is reserved for a later version; leave it None.")
