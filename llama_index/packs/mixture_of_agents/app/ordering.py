"""From what a caller ordered to a pack that can be asked. No model is called here.

It knows neither options of a command line nor what is shown of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.llms.mock import MockLLM

from llama_index.packs.mixture_of_agents.app.default_mixture import (
    Wishes,
    default_aggregator,
    default_proposers,
    named_proposers,
)
from llama_index.packs.mixture_of_agents.app.preparing import default_directory
from llama_index.packs.mixture_of_agents.app.view import View
from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.providers import llm_named

_REPETITION_PENALTY = 1.08
_REMOTE_TIMEOUT = 200.0


@dataclass(frozen=True)
class Order:
    """What the caller wants. Nothing said is None, or empty, and left to the pack.

    Attributes:
        models: Proposers as "provider:model"; empty for the embedded default.
        aggregator: Likewise; None for the first of the models, or the default's own.
        role_writer: Likewise, who writes roles.
        options: The pack's options that are plain values, by name.
        seed: Of the first proposer; None for none.
        config: A file that describes a mixture; what else is said here wins over it.
        extract: What counts as an answer when votes or agreements are counted.
        window: Texts in one pass of a sequential finish.
        stop_early: The share of a round that must agree to skip the rest.
        budget: "usd", "tokens" and "seconds" of a run, as far as they are limited.
        trace: Write runs down; None leaves it to the command.
        trace_dir: Where to.
        redact: Leave texts out of what is written down.
        cache: Where answers are kept, to be given again.
        checkpoint: A file to save to and to resume from.
        as_json: Print the whole response.
        progress: Show what goes on; None leaves it to the terminals.
        lines_to_output: Where there is no terminal, show it on standard output.
    """

    models: tuple[str, ...] = ()
    aggregator: str | None = None
    role_writer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    config: str | None = None
    extract: str | None = None
    window: int | None = None
    stop_early: float | None = None
    budget: Mapping[str, float] = field(default_factory=dict)
    trace: bool | None = False
    trace_dir: str | None = None
    redact: bool = False
    cache: str | None = None
    checkpoint: str | None = None
    as_json: bool = False
    progress: bool | None = None
    lines_to_output: bool = False

    @property
    def wishes(self) -> Wishes:
        """How to sample, as far as the caller says."""
        return Wishes(self.options.get("temperature"), self.options.get("max_tokens"), self.seed)

    @property
    def strategy(self) -> str:
        """Who proposes, by the name of a strategy; a spread of temperatures tells it too."""
        spreads = self.options.get("temperatures") is not None
        return str(self.options.get("strategy", "temperature" if spreads else "model"))

    def mixture(self) -> dict[str, Any]:
        """What makes the mixture what it is, as JSON; not how it is watched or kept."""
        aside = (
            "trace",
            "trace_dir",
            "redact",
            "cache",
            "checkpoint",
            "as_json",
            "progress",
            "lines_to_output",
        )
        return {name: value for name, value in vars(self).items() if name not in aside}


def given(**options: Any) -> dict[str, Any]:
    """Those that were said."""
    return {name: value for name, value in options.items() if value is not None}


def pack_for(
    order: Order, view: View | None = None, policies: Sequence[Any] = (), *, prepares: bool = True
) -> MixtureOfAgentsPack:
    """The pack the caller ordered; whatever cannot work is refused before a model is fetched or called.

    Args:
        order: What is wanted.
        view: Who watches the preparations.
        policies: Who takes part in runs.
        prepares: Whether the embedded default is made ready where it is asked for; else a model that
            says nothing stands in its place, and the pack is there to be looked at only.

    Raises:
        ConfigurationError: Something cannot work.
    """
    if order.models:
        return _named_pack(order, policies)
    aggregator = None if order.aggregator is None else llm_named(order.aggregator)
    pack = _default_pack(order, MockLLM(), aggregator, policies)  # so that options are checked first
    if not prepares:
        return pack
    local = llm_named(f"sparse-moe:{default_directory(view or View())}")
    if "repetition_penalty" in type(local).model_fields:
        # Without it so small a model says the same line until its tokens are used up.
        local = local.model_copy(update={"repetition_penalty": _REPETITION_PENALTY})
    return _default_pack(order, local, aggregator, policies)


def _named_pack(order: Order, policies: Sequence[Any]) -> MixtureOfAgentsPack:
    aggregator = None if order.aggregator is None else llm_named(order.aggregator)
    named = {name: llm_named(name) for name in order.models}
    proposers = named_proposers([named[name] for name in order.models], order.wishes)
    writer = Proposer(aggregator or named[order.models[0]], seed=order.seed)
    return _pack(order, proposers, writer, policies, timeout=_REMOTE_TIMEOUT)


def _default_pack(order: Order, local: Any, aggregator: Any, policies: Sequence[Any]) -> MixtureOfAgentsPack:
    writer = (
        default_aggregator(local, order.wishes)
        if aggregator is None
        else Proposer(aggregator, seed=order.seed)
    )
    proposers = default_proposers(local, order.wishes, order.strategy)
    return _pack(order, proposers, writer, policies, timeout=None)


def _pack(
    order: Order,
    proposers: list[Proposer],
    writer: Proposer,
    policies: Sequence[Any],
    timeout: float | None,
) -> MixtureOfAgentsPack:
    """Build it. On one's own machine a run may take its time; elsewhere something hangs."""
    options: dict[str, Any] = {"timeout": timeout, **order.options, **_special(order)}
    return MixtureOfAgentsPack(writer, proposers, policies=list(policies), **options)


def _special(order: Order) -> dict[str, Any]:
    """Options that are objects, made of what was said."""
    writer = None if order.role_writer is None else llm_named(order.role_writer)
    return given(
        strategy=order.strategy if order.strategy != "model" else None,
        temperatures=_temperatures(order.options.get("temperatures")),
        role_writer=writer,
    )


def _temperatures(words: Sequence[Any] | str | None) -> list[float] | str | None:
    """Temperatures as the pack takes them: numbers, or two bounds in one text."""
    if words is None or isinstance(words, str):
        return words
    listed = list(words)
    if len(listed) == 1 and ".." in str(listed[0]):
        return str(listed[0])
    try:
        return [float(word) for word in listed]
    except ValueError as error:
        raise ConfigurationError(
            f"temperatures are numbers, or two bounds as 0.2..1.0; found {' '.join(map(str, listed))}."
        ) from error
