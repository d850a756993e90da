"""A mixture, checked and seated: who sits in which layer, who finishes and how, how long is waited.

Everything that can be wrong with a mixture is found here, before any call. It knows no question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents import prompts
from llama_index.packs.mixture_of_agents.agreement import EarlyStop
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.checks import has_methods, shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.facts import MixtureFacts
from llama_index.packs.mixture_of_agents.fingerprints import plain
from llama_index.packs.mixture_of_agents.finishes import Finish, finish_named
from llama_index.packs.mixture_of_agents.gate.protocol import Gate
from llama_index.packs.mixture_of_agents.policies import Meter, RunPolicy
from llama_index.packs.mixture_of_agents.proposers import CallPolicy, Proposer, check_sampling
from llama_index.packs.mixture_of_agents.runs.options import check_limits, check_ways, checked_policies
from llama_index.packs.mixture_of_agents.runs.rounds import RoundLimits
from llama_index.packs.mixture_of_agents.seats.seat import Seat
from llama_index.packs.mixture_of_agents.seats.seating import Seating, seat_layers
from llama_index.packs.mixture_of_agents.spreading import Temperatures
from llama_index.packs.mixture_of_agents.strategies import Strategy

_FINGERPRINTED = {
    "layers",
    "aggregator",
    "role_writer",
    "roles_per",
    "finish",
    "pass_on",
    "stop_early",
    "gate",
}
_WORDS = ("AGGREGATE", "REFINE", "MATERIAL", "ABSENT", "HOW_TO_REPLY", "CONDENSE", "RANK", "WRITE_ROLES")


@dataclass(frozen=True)
class Mixture:
    """A checked mixture. Build it with `seat_mixture`.

    Attributes:
        layers: The seats of each round of proposers; one round fewer than `num_layers`.
        aggregator: Who writes the answer, and condenses rounds.
        finish: How the last round becomes an answer.
        limits: How long a round waits.
        timeout: Seconds for a whole run; None for no limit.
        max_concurrency: Calls in flight; None for no limit.
        max_retries: Tries after the first, for transient failures.
        policies: Asked before and told after each call; a RunPolicy makes something new for each run.
        role_writer: Who writes roles for the question; None where nobody does.
        roles_per: "run" or "layer": how often.
        condenses: Rounds pass on one text instead of all proposals.
        stop_early: When remaining rounds are skipped; None for never.
        gate: Who decides whom to ask; None where all are.
        meter: Knows what calls cost; None for nobody.
        config: What it was built from, as JSON; None for nothing.
    """

    layers: tuple[tuple[Seat, ...], ...]
    aggregator: Seat
    finish: Finish
    limits: RoundLimits
    timeout: float | None
    max_concurrency: int | None
    max_retries: int
    policies: tuple[CallPolicy | RunPolicy, ...]
    role_writer: Seat | None = None
    roles_per: str = "run"
    condenses: bool = False
    stop_early: EarlyStop | None = None
    gate: Gate | None = None
    meter: Meter | None = None
    config: Mapping[str, Any] | None = None

    @property
    def num_layers(self) -> int:
        """Rounds of proposers and the finish, as the paper counts."""
        return len(self.layers) + 1

    @property
    def width(self) -> int:
        """Most proposers of any layer."""
        return max((len(layer) for layer in self.layers), default=1)

    @property
    def names(self) -> list[list[str]]:
        """Who sits in each layer; in the last one the aggregator."""
        return [*([seat.name for seat in layer] for layer in self.layers), [self.aggregator.name]]

    @cached_property
    def facts(self) -> MixtureFacts:
        """The mixture as plain facts."""
        return MixtureFacts(
            layers=[[seat.facts() for seat in layer] for layer in self.layers],
            aggregator=self.aggregator.facts(),
            role_writer=None if self.role_writer is None else self.role_writer.facts(),
            roles_per=self.roles_per,
            finish=self.finish.described(),
            pass_on="condensed" if self.condenses else "proposals",
            stop_early=None if self.stop_early is None else self.stop_early.described(),
            gate=None if self.gate is None else self.gate.described(),
            timeout=self.timeout,
            layer_timeout=self.limits.layer_timeout,
            max_retries=self.max_retries,
            options={
                "quorum": self.limits.quorum,
                "quorum_grace": self.limits.grace,
                "max_concurrency": self.max_concurrency,
            },
            config=None if self.config is None else dict(self.config),
        )

    def fingerprint(self, messages: Sequence[ChatMessage]) -> str:
        """Names this mixture asked this question: equal for equal ones, across processes."""
        facts = self.facts.model_dump(mode="json", include=_FINGERPRINTED)
        words = [getattr(prompts, name) for name in _WORDS]
        asked = [plain(message) for message in messages]
        return sha256(json.dumps([facts, words, asked], sort_keys=True).encode()).hexdigest()


def seat_mixture(
    proposers: Any,
    aggregator: Any,
    *,
    num_layers: int = 3,
    max_tokens: int | None = None,
    temperature: float | None = None,
    timeout: float | None = 200,
    strategy: str | Strategy = "model",
    temperatures: Temperatures | None = None,
    role_writer: Any = None,
    roles: str = "run",
    nb_models_by_layer: int | Sequence[int] | None = None,
    pick: str = "cycle",
    pick_seed: int = 0,
    finish: str | Finish = "synthesize",
    pass_on: str = "proposals",
    stop_early: EarlyStop | None = None,
    gate: Gate | None = None,
    budget: RunPolicy | None = None,
    trace: RunPolicy | None = None,
    meter: Meter | None = None,
    quorum: int | None = None,
    quorum_grace: float = 0.0,
    layer_timeout: float | None = None,
    max_concurrency: int | None = None,
    max_retries: int = 2,
    policies: Sequence[CallPolicy | RunPolicy] = (),
    config: Mapping[str, Any] | None = None,
) -> Mixture:
    """Check everything, then seat everyone. `MixtureOfAgentsPack` describes the arguments.

    Raises:
        ConfigurationError: Anything that cannot work.
    """
    check_limits(
        num_layers=num_layers,
        quorum=quorum,
        quorum_grace=quorum_grace,
        timeout=timeout,
        layer_timeout=layer_timeout,
        max_concurrency=max_concurrency,
        max_retries=max_retries,
    )
    check_ways(roles=roles, pass_on=pass_on, stop_early=stop_early, meter=meter, config=config, gate=gate)
    defaults = Sampling(temperature=temperature, max_tokens=max_tokens)
    check_sampling(defaults)
    seating = Seating(strategy, temperatures, pick, pick_seed, roles != "fixed", defaults)
    layers = seat_layers(seating, proposers, num_layers, nb_models_by_layer)
    _check_quorum(quorum, layers)
    way = finish_named(finish)
    _check_finish(way, layers)
    _check_gate(gate, layers)
    writer = Seat.of(as_proposer(aggregator), defaults)
    takes_roles = any(seat.proposer.takes_role for layer in layers for seat in layer)
    return Mixture(
        layers=layers,
        aggregator=writer,
        finish=way,
        limits=RoundLimits(quorum, quorum_grace, layer_timeout),
        timeout=timeout,
        max_concurrency=max_concurrency,
        max_retries=max_retries,
        policies=checked_policies(policies, trace=trace, budget=budget),
        role_writer=_role_writer(role_writer, writer, takes_roles, strategy, roles, defaults),
        roles_per=roles,
        condenses=pass_on == "condensed",
        stop_early=stop_early,
        gate=gate,
        meter=meter,
        config=config,
    )


def as_proposer(model: Any) -> Proposer:
    """A proposer of an LLM or agent, or the proposer itself."""
    return model if isinstance(model, Proposer) else Proposer(model)


def _role_writer(
    given: Any, aggregator: Seat, takes_roles: bool, strategy: object, roles: str, defaults: Sampling
) -> Seat | None:
    if given is not None and (roles == "fixed" or (strategy != "role" and not takes_roles)):
        raise ConfigurationError(
            f"role_writer writes roles with strategy='role' and roles='run' or 'layer'; found strategy="
            f"{shown(strategy)} and roles={shown(roles)}. Change these, or leave role_writer None."
        )
    if not takes_roles:
        return None
    return aggregator if given is None else Seat.of(as_proposer(given), defaults)


def _check_finish(finish: Finish, layers: Sequence[Sequence[Seat]]) -> None:
    if not layers and not finish.writes:
        raise ConfigurationError(
            f"finish={finish.name!r} chooses among proposals, and num_layers=1 has none. Use num_layers=2 or "
            "more, or finish='synthesize'."
        )
    names = [seat.name for seat in layers[-1]] if layers else []
    unknown = [name for name in finish.described().get("weights", {}) if name not in names]
    if unknown:
        raise ConfigurationError(
            f"weights name {', '.join(map(repr, unknown))}, but in the last round there are "
            f"{', '.join(map(repr, names))} to vote."
        )


def _check_gate(gate: Any, layers: Sequence[Sequence[Seat]]) -> None:
    """Have a gate that was made for certain proposers say before any call whether these are they."""
    for layer in layers if has_methods(gate, "check") else ():
        gate.check([seat.name for seat in layer])


def _check_quorum(quorum: int | None, layers: Sequence[Sequence[Seat]]) -> None:
    fewest = min((len(layer) for layer in layers), default=None)
    if quorum is not None and fewest is not None and quorum > fewest:
        raise ConfigurationError(
            f"quorum is {quorum}, but a round has only {fewest} proposers. "
            f"Use a quorum of at most {fewest}, or None to wait for all."
        )
