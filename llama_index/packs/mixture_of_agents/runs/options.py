"""The options of a mixture by name, and whether each could work by itself, whatever the models are.

What goes together, or with whom, is for `mixture` and `seating` to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from llama_index.packs.mixture_of_agents.agreement import EarlyStop
from llama_index.packs.mixture_of_agents.checks import has_methods, seconds, shown, whole_number
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.finishes import Finish
from llama_index.packs.mixture_of_agents.gate.protocol import Gate
from llama_index.packs.mixture_of_agents.policies import Meter, RunPolicy
from llama_index.packs.mixture_of_agents.proposers import CallPolicy
from llama_index.packs.mixture_of_agents.spreading import Temperatures
from llama_index.packs.mixture_of_agents.strategies import Strategy

ROLES_PER = ("run", "layer", "fixed")
PASS_ON = ("proposals", "condensed")


class MixtureOptions(TypedDict, total=False):
    """The options of a mixture, by name; `MixtureOfAgentsPack` describes each."""

    num_layers: int
    max_tokens: int | None
    temperature: float | None
    timeout: float | None
    strategy: str | Strategy
    temperatures: Temperatures | None
    role_writer: Any
    roles: str
    nb_models_by_layer: int | Sequence[int] | None
    pick: str
    pick_seed: int
    finish: str | Finish
    pass_on: str
    stop_early: EarlyStop | None
    gate: Gate | None
    budget: RunPolicy | None
    trace: RunPolicy | None
    meter: Meter | None
    quorum: int | None
    quorum_grace: float
    layer_timeout: float | None
    max_concurrency: int | None
    max_retries: int
    policies: Sequence[CallPolicy | RunPolicy]
    config: Mapping[str, Any] | None


def check_limits(
    *,
    num_layers: object,
    quorum: object,
    quorum_grace: object,
    timeout: object,
    layer_timeout: object,
    max_concurrency: object,
    max_retries: object,
) -> None:
    """Refuse counts and times that cannot work."""
    meaning = "3 means two rounds of proposers and the synthesis, 1 the aggregator alone."
    whole_number("num_layers", num_layers, 1, hint=meaning)
    whole_number("quorum", quorum, 1, none="to wait for all")
    whole_number("max_concurrency", max_concurrency, 1, none="for no limit")
    whole_number("max_retries", max_retries, 0)
    seconds("quorum_grace", quorum_grace, or_zero=True)
    seconds("timeout", timeout, none="for no limit")
    seconds("layer_timeout", layer_timeout, none="for no limit")


def check_ways(
    *, roles: object, pass_on: object, stop_early: object, meter: object, config: object, gate: object
) -> None:
    """Refuse what is none of the ways there are, and objects without the methods that will be called."""
    _one_of("roles", roles, ROLES_PER)
    _one_of("pass_on", pass_on, PASS_ON)
    early = "agreement.Agreement(...) or agreement.Similarity(...), or None for never"
    _methods("stop_early", stop_early, early, "agreed", "described")
    metering = "an object with measured(call, text, usage), such as records.prices.Prices(), or None"
    _methods("meter", meter, metering, "measured")
    _check_config(config)
    gating = "a gate, such as gate.load_gate(folder), with decide(), weights() and described(), or None"
    _methods("gate", gate, gating, "decide", "weights", "described")


def _one_of(name: str, value: object, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ConfigurationError(f"{name} must be {' or '.join(map(repr, valid))}; found {shown(value)}.")


def _methods(name: str, value: object, rule: str, *methods: str) -> None:
    if value is not None and not has_methods(value, *methods):
        raise ConfigurationError(f"{name} must be {rule}; found {shown(value)}.")


def _check_config(config: object) -> None:
    if config is None:
        return
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"config must be a mapping of names to values, or None; found {shown(config)}."
        )
    try:
        json.dumps(dict(config))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"config must be values that JSON can hold: {error}.") from error


def checked_policies(policies: object, **named: RunPolicy | None) -> tuple[CallPolicy | RunPolicy, ...]:
    """The caller's policies, then those named (the trace, at last the budget), refused where they are none.

    A budget comes last so that it sees only calls that really go out.
    """
    given = policies if isinstance(policies, (list, tuple)) else None
    if given is None or not all(_is_policy(policy) for policy in given):
        raise ConfigurationError(
            "policies must be a list of objects with before(call) and after(call, outcome), as "
            "proposers.CallPolicy describes them, or with for_run(start), as policies.RunPolicy does; found "
            f"{shown(policies)}. Pass () for none."
        )
    for name, policy in named.items():
        if policy is not None and not has_methods(policy, "for_run"):
            raise ConfigurationError(
                f"{name} of a workflow must be a policies.RunPolicy, such as records.{name}."
                f"{name.capitalize()}(...); found {shown(policy)}. MixtureOfAgentsPack takes shorter forms."
            )
    return (*given, *(policy for policy in named.values() if policy is not None))


def _is_policy(policy: object) -> bool:
    return has_methods(policy, "before", "after") or has_methods(policy, "for_run")
