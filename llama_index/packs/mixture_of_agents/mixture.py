"""A mixture, checked and seated: who sits in which layer, who aggregates, how long is waited.

Everything that can be wrong with a mixture is found here, before any call. It knows no question.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypedDict

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel

from llama_index.packs.mixture_of_agents import prompts
from llama_index.packs.mixture_of_agents.checks import has_methods, seconds, shown, whole_number
from llama_index.packs.mixture_of_agents.endpoint import Endpoint
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.layouts import prefix_sharers
from llama_index.packs.mixture_of_agents.proposers import CallPolicy, Proposer, as_proposers, check_sampling
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
    """A proposer in its place: the way to call it, with all settings resolved.

    Attributes:
        proposer: Who sits there.
        sampling: Its settings, resolved.
        endpoint: The way to call it.
        shares_prefix: Others of its layer have the same local model, so their prompts begin alike.
    """

    proposer: Proposer
    sampling: Sampling
    endpoint: Endpoint
    shares_prefix: bool = False

    @classmethod
    def of(cls, proposer: Proposer, defaults: Sampling, shares_prefix: bool = False) -> Seat:
        """Seat a proposer, with `defaults` where its own settings say nothing."""
        return cls(proposer, proposer.sampling.over(defaults), proposer.endpoint(defaults), shares_prefix)

    @property
    def name(self) -> str:
        """The proposer's name."""
        return self.proposer.name

    def described(self) -> dict[str, Any]:
        """What makes this seat what it is, as JSON."""
        return {**self.proposer.described(), **self.sampling.given(), "shares_prefix": self.shares_prefix}


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

    @property
    def names(self) -> list[list[str]]:
        """Who sits in each layer; in the last one the aggregator."""
        return [*([seat.name for seat in layer] for layer in self.layers), [self.aggregator.name]]

    def fingerprint(self, messages: Sequence[ChatMessage]) -> str:
        """Names this mixture asked this question: equal for equal ones, across processes."""
        seats = [[seat.described() for seat in layer] for layer in self.layers]
        words = [prompts.AGGREGATE, prompts.REFINE, prompts.MATERIAL, prompts.ABSENT, prompts.HOW_TO_REPLY]
        asked = [_plain(message) for message in messages]
        text = json.dumps([seats, self.aggregator.described(), words, asked], sort_keys=True)
        return sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A message as JSON, whatever its caller put into it; the same in every process."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(held) for held in value]
    if isinstance(value, bytes):
        return sha256(value).hexdigest()
    # An object without a text of its own has its address instead, which is another in every process.
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))


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
    _check_counts(num_layers, quorum, max_concurrency, max_retries)
    seconds("quorum_grace", quorum_grace, or_zero=True)
    seconds("timeout", timeout, none="for no limit")
    seconds("layer_timeout", layer_timeout, none="for no limit")
    _check_reserved(finish, gate=gate, budget=budget, trace=trace)
    defaults = Sampling(temperature=temperature, max_tokens=max_tokens)
    check_sampling(defaults)
    _check_policies(policies)
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


def _seat_layer(
    layer: int, models: Sequence[Any], strategy: str | Strategy, asked: int | None, defaults: Sampling
) -> tuple[Seat, ...]:
    given = as_proposers(models)
    chosen = strategy_named(strategy)(layer, given, seats_wanted(strategy, len(given), asked))
    _check_chosen(layer, chosen)
    seated = as_proposers(chosen)
    sharing = prefix_sharers([proposer.model for proposer in seated])
    return tuple(Seat.of(who, defaults, shares) for who, shares in zip(seated, sharing, strict=True))


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


def _check_counts(num_layers: object, quorum: object, max_concurrency: object, max_retries: object) -> None:
    meaning = "3 means two rounds of proposers and the synthesis, 1 the aggregator alone."
    whole_number("num_layers", num_layers, 1, hint=meaning)
    whole_number("quorum", quorum, 1, none="to wait for all")
    whole_number("max_concurrency", max_concurrency, 1, none="for no limit")
    whole_number("max_retries", max_retries, 0)


def _check_policies(policies: object) -> None:
    given = policies if isinstance(policies, (list, tuple)) else None
    if given is None or not all(has_methods(policy, "before", "after") for policy in given):
        raise ConfigurationError(
            "policies must be a list of objects with before(call) and after(call, outcome), as "
            f"proposers.CallPolicy describes them; found {shown(policies)}. Pass () for none."
        )


def _check_quorum(quorum: int | None, layers: Sequence[Sequence[Seat]]) -> None:
    fewest = min((len(layer) for layer in layers), default=None)
    if quorum is not None and fewest is not None and quorum > fewest:
        raise ConfigurationError(
            f"quorum is {quorum}, but a round has only {fewest} proposers. "
            f"Use a quorum of at most {fewest}, or None to wait for all."
        )


def _check_reserved(finish: object, **reserved: object) -> None:
    if finish != "synthesize":
        raise ConfigurationError(
            f"finish must be 'synthesize', the only way to finish so far; found {shown(finish)}."
        )
    for name, value in reserved.items():
        if value is not None:
            raise ConfigurationError(f"{name} is reserved for a later version; leave it None.")
