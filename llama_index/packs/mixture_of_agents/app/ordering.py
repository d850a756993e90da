"""From what a caller ordered to a pack that can be asked. No model is called here.

It knows neither options of a command line nor what is shown of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from llama_index.core.llms.llm import LLM
from llama_index.core.llms.mock import MockLLM

from llama_index.packs.mixture_of_agents.agreement import Agreement
from llama_index.packs.mixture_of_agents.app.default_mixture import (
    Wishes,
    default_aggregator,
    default_proposers,
    named_proposers,
)
from llama_index.packs.mixture_of_agents.app.preparing import default_directory
from llama_index.packs.mixture_of_agents.app.sleeping import let_threads_sleep
from llama_index.packs.mixture_of_agents.app.view import View
from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.finishes import Sequential, Vote
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.providers import llm_named, variables
from llama_index.packs.mixture_of_agents.providers.variables import StandInKeys

_REPETITION_PENALTY = 1.08


@dataclass(frozen=True)
class Order:
    """What the caller wants. Nothing said is None, or empty, and left to the pack.

    Attributes:
        models: Proposers as "provider:model"; empty for the embedded default.
        aggregator: Likewise; None for the first of the models, or the default's own.
        role_writer: Likewise, who writes roles.
        options: The pack's options that are plain values, by name.
        seed: Of the first proposer; None for none.
        gate: A folder of `moa gate train`; None asks everyone.
        online: Reckon with what `moa gate feedback` told of it.
        config: A file that describes a mixture; what else is said here wins over it.
        extract: What counts as an answer when votes or agreements are counted.
        window: Texts in one pass of a sequential finish.
        stop_early: The share of a round that must agree to skip the rest.
        budget: "usd", "tokens" and "seconds" of a run, as far as they are limited.
        trace: Write runs down.
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
    gate: str | None = None
    online: bool = False
    config: str | None = None
    extract: str | None = None
    window: int | None = None
    stop_early: float | None = None
    budget: Mapping[str, Any] = field(default_factory=dict)
    trace: bool = False
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
    def strategy(self) -> str | None:
        """Who proposes, by the name of a strategy; a spread of temperatures tells it too."""
        spreads = self.options.get("temperatures") is not None
        name: str | None = self.options.get("strategy", "temperature" if spreads else None)
        return name

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
    if order.config is not None:
        # Not at the top: most orders come without a file.
        from llama_index.packs.mixture_of_agents.app.configured import configured

        mixture = configured(order)
        taking_part = [*policies, *recorders(mixture.order)]
        if mixture.names_models:
            return mixture.config.pack(llm_for=_model_maker(prepares), policies=taking_part)
        return _default_pack(order, mixture.options(), view or View(), taking_part, prepares)
    options = {**order.options, **_objects(order, _model_maker(prepares)), "config": order.mixture()}
    taking_part = [*policies, *recorders(order)]
    if order.models:
        return _named_pack(order, options, taking_part, _model_maker(prepares))
    return _default_pack(order, options, view or View(), taking_part, prepares)


def _model_maker(prepares: bool) -> Callable[..., LLM]:
    """Makes models by name; those that are only looked at need no key."""
    return llm_named if prepares else partial(llm_named, env=StandInKeys(variables()))


def _named_pack(
    order: Order, options: dict[str, Any], policies: Sequence[Any], make: Callable[..., LLM]
) -> MixtureOfAgentsPack:
    aggregator = None if order.aggregator is None else make(order.aggregator)
    named = {name: make(name) for name in order.models}
    proposers = named_proposers([named[name] for name in order.models], order.wishes)
    writer = Proposer(aggregator or named[order.models[0]], seed=order.seed)
    return MixtureOfAgentsPack(writer, proposers, policies=list(policies), **options)


def _default_pack(
    order: Order, options: Mapping[str, Any], view: View, policies: Sequence[Any], prepares: bool
) -> MixtureOfAgentsPack:
    aggregator = None if order.aggregator is None else _model_maker(prepares)(order.aggregator)

    def pack(local: Any) -> MixtureOfAgentsPack:
        writer = (
            default_aggregator(local, order.wishes)
            if aggregator is None
            else Proposer(aggregator, seed=order.seed)
        )
        proposers = default_proposers(local, order.wishes, str(options.get("strategy", "model")))
        # On one's own machine a run may take its time; elsewhere something hangs.
        unlimited = {"timeout": None, **options}
        taking_part = [*policies, *unlimited.pop("policies", ())]
        return MixtureOfAgentsPack(writer, proposers, policies=taking_part, **unlimited)

    # One that says nothing stands in, so that options are checked before anything is fetched.
    standing_in = pack(MockLLM())
    return pack(local_model(view)) if prepares else standing_in


def local_model(view: View, *, words_facts: bool = False) -> Any:
    """The embedded default, made ready under a view's eyes.

    Args:
        view: What shows how far it is.
        words_facts: It is to put facts in words: it may say the same names again, and one paragraph is all.

    Raises:
        ConfigurationError: It cannot be made.
    """
    let_threads_sleep()
    local = llm_named(f"sparse-moe:{default_directory(view)}")
    # Without either so small a model says the same line until its tokens are used up.
    bounds = {"stop": "\n\n"} if words_facts else {"repetition_penalty": _REPETITION_PENALTY}
    return local.model_copy(update=bounds) if bounds.keys() <= type(local).model_fields.keys() else local


def _objects(order: Order, make: Callable[..., LLM]) -> dict[str, Any]:
    """Options of the pack that are more than plain values, as far as they were ordered."""
    return given(
        strategy=order.strategy,
        temperatures=temperatures(order.options.get("temperatures")),
        role_writer=None if order.role_writer is None else make(order.role_writer),
        finish=_finish(order),
        stop_early=_early_stop(order),
        budget=_budget(order),
        gate=_gate(order),
    )


def _finish(order: Order) -> Any:
    """A way to finish with settings of its own; None where its name says all."""
    name = order.options.get("finish", "synthesize")
    if order.window is not None and name != "sequential":
        raise ConfigurationError(f"--window belongs to --finish sequential; found --finish {name}.")
    if order.extract is not None and name != "vote" and order.stop_early is None:
        raise ConfigurationError(
            f"--extract belongs to --finish vote or to --stop-early; found --finish {name}, no --stop-early."
        )
    if order.window is not None:
        return Sequential(order.window)
    return Vote(order.extract) if name == "vote" and order.extract is not None else None


def _early_stop(order: Order) -> Any:
    if order.stop_early is None:
        return None
    return Agreement(**given(extract=order.extract, share=order.stop_early))


def _budget(order: Order) -> Any:
    if not order.budget:
        return None
    from llama_index.packs.mixture_of_agents.records.budget import Budget

    return Budget(**order.budget)


def _gate(order: Order) -> Any:
    if order.gate is None:
        if order.online:
            raise ConfigurationError("--online belongs to --gate FOLDER; name the gate that has learned.")
        return None
    from llama_index.packs.mixture_of_agents.gate.online import load_online
    from llama_index.packs.mixture_of_agents.gate.protocol import load_gate

    return load_online(order.gate) if order.online else load_gate(order.gate)


def recorders(order: Order) -> list[Any]:
    """Who keeps what of runs: answers to be given again, and a trace."""
    # Not at the top: most orders want no cache.
    from llama_index.packs.mixture_of_agents.records.answer_cache import AnswerCache
    from llama_index.packs.mixture_of_agents.records.trace import FOLDER, Trace

    kept: list[Any] = [] if order.cache is None else [AnswerCache(order.cache)]
    if order.trace:
        kept.append(Trace(folder=order.trace_dir or FOLDER, redact=order.redact))
    return kept


def temperatures(words: Sequence[Any] | str | None) -> list[float] | str | None:
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
