"""From a configuration to a pack: models made by name, each once, and all that its tables say.

No call is made. What a name means is left to `providers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.config.aliases import resolved
from llama_index.packs.mixture_of_agents.config.faults import Fault, Place, RefusedError, refused
from llama_index.packs.mixture_of_agents.config.mixture_config import MixtureConfig
from llama_index.packs.mixture_of_agents.config.tables import (
    BudgetConfig,
    FinishConfig,
    ModelConfig,
    ProposerConfig,
    StopConfig,
    TraceConfig,
)
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.facts import MixtureFacts
from llama_index.packs.mixture_of_agents.finishes import Finish, Rank, Sequential, Synthesize, Vote
from llama_index.packs.mixture_of_agents.proposers import Proposer

AS_THEY_ARE = (
    *("num_layers", "max_tokens", "temperature", "timeout", "strategy", "temperatures", "roles"),
    *("nb_models_by_layer", "pick", "pick_seed", "pass_on", "quorum", "quorum_grace", "layer_timeout"),
    *("max_concurrency", "max_retries"),
)
"""The options of the pack that are fields under the same name, with the same values."""


class LLMFor(Protocol):
    """Makes the LLM of a name, with settings of its class."""

    def __call__(self, name: str, *, settings: Mapping[str, Any]) -> Any:
        """The LLM; an agent will do, too."""


class _Models:
    """Makes each model once: proposers on one local model share it, and what they read in common."""

    def __init__(self, config: MixtureConfig, llm_for: LLMFor | None) -> None:
        self._aliases = config.models
        self._llm_for = llm_for
        self._made: dict[str, Any] = {}

    def proposer(self, entry: ProposerConfig, place: Place) -> Proposer:
        """The proposer of an entry.

        Raises:
            RefusedError: Its model cannot be made, or takes no such settings.
        """
        full = resolved(entry, self._aliases)
        try:
            return Proposer(
                self._llm(full),
                name=full.name,
                role=full.role,
                temperature=full.temperature,
                max_tokens=full.max_tokens,
                seed=full.seed,
                timeout=full.timeout,
            )
        except ConfigurationError as error:
            raise RefusedError([Fault(place, f": {error}{self._hint(full.model)}")]) from error

    def _llm(self, full: ModelConfig) -> Any:
        key = json.dumps([full.model, full.settings], sort_keys=True)
        if key not in self._made:
            make = self._llm_for or _named_by_provider
            self._made[key] = make(full.model, settings=full.settings)
        return self._made[key]

    def _hint(self, name: str) -> str:
        close = near(name, self._aliases)
        return f" Or did you mean {close!r}, which is in models?" if close else ""


def near(name: str, known: Mapping[str, Any]) -> str | None:
    """Which of these a name may be a slip of; None for none."""
    from difflib import get_close_matches

    found = get_close_matches(name, known, n=1, cutoff=0.7)
    return found[0] if found else None


def _named_by_provider(name: str, *, settings: Mapping[str, Any]) -> Any:
    from llama_index.packs.mixture_of_agents.providers import llm_named

    return llm_named(name, settings=settings)


def pack_of(
    config: MixtureConfig,
    llm_for: LLMFor | None,
    embed_for: Callable[[str], Any] | None,
    policies: Sequence[Any],
) -> MixtureOfAgentsPack:
    """The pack of a configuration; `MixtureConfig.pack` describes the arguments."""
    models = _Models(config, llm_for)
    rounds = [
        [models.proposer(entry, _place(config, n, m)) for m, entry in enumerate(entries)]
        for n, entries in enumerate(config.proposers)
    ]
    writer = models.proposer(_writer(config), ("aggregator",))
    references: Any = rounds[0] if len(rounds) == 1 else rounds
    options = _options(config, models, embed_for)
    limiting = options.pop("policies", [])
    pack = MixtureOfAgentsPack(writer, references, policies=[*policies, *limiting], **options)
    refuse_idle_limits(config.limits, pack.workflow.mixture.facts)
    return pack


def _place(config: MixtureConfig, number: int, index: int) -> Place:
    return ("proposers", index) if len(config.proposers) == 1 else ("proposers", number, index)


def _writer(config: MixtureConfig) -> ProposerConfig:
    """Who writes the answer: as said, else the first proposer's model without its role and sampling."""
    if config.aggregator is not None:
        return config.aggregator
    if not config.proposers:
        raise refused(
            (), " names no model. Set proposers to a list such as ['openai:gpt-4o-mini'], or aggregator."
        )
    first = config.proposers[0][0]
    return ProposerConfig(model=first.model, settings=first.settings)


def options_of(
    config: MixtureConfig, llm_for: LLMFor | None, embed_for: Callable[[str], Any] | None
) -> dict[str, Any]:
    """The pack's keyword arguments; `MixtureConfig.options` describes the arguments."""
    return _options(config, _Models(config, llm_for), embed_for)


def _options(
    config: MixtureConfig, models: _Models, embed_for: Callable[[str], Any] | None
) -> dict[str, Any]:
    role_writer = config.role_writer
    capacity = _capacity(config)
    prices = {name: price.model_dump(exclude_none=True) for name, price in config.prices.items()}
    return {
        **{name: _listed(getattr(config, name)) for name in AS_THEY_ARE},
        "role_writer": None if role_writer is None else models.proposer(role_writer, ("role_writer",)),
        "finish": _finish(config.finish),
        "stop_early": None if config.stop_early is None else _early_stop(config.stop_early, embed_for),
        "gate": _gate(config, capacity),
        **({} if capacity is None else {"policies": [capacity]}),
        "budget": None if config.budget is None else _budget(config.budget, prices),
        "trace": None if config.trace is None else _trace(config.trace),
        "prices": prices or None,
        "config": config.described(full=True),
    }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _finish(finish: FinishConfig) -> Finish:
    if finish.kind == "sequential":
        return Sequential() if finish.window is None else Sequential(finish.window)
    if finish.kind == "vote":
        return Vote(finish.extract or "answer", finish.weights)
    return Rank() if finish.kind == "rank" else Synthesize()


def _early_stop(stop: StopConfig, embed_for: Callable[[str], Any] | None) -> Any:
    from llama_index.packs.mixture_of_agents.agreement import Agreement, Similarity
    from llama_index.packs.mixture_of_agents.config.embedding import embedding_named

    if stop.kind == "agreement":
        return Agreement(**_given(extract=stop.extract, share=stop.share))
    try:
        model = (embed_for or embedding_named)(str(stop.embed_model))
    except ConfigurationError as error:
        raise refused(("stop_early", "embed_model"), f": {error}") from error
    return Similarity(model, **_given(threshold=stop.threshold))


def _gate(config: MixtureConfig, capacity: Any) -> Any:
    if config.gate is None:
        if config.gate_online:
            raise refused(("gate_online",), " needs a gate; name its folder.")
        return None
    from llama_index.packs.mixture_of_agents.gate.capped_gate import CappedGate
    from llama_index.packs.mixture_of_agents.gate.online import load_online
    from llama_index.packs.mixture_of_agents.gate.protocol import load_gate

    try:
        gate = load_online(config.gate) if config.gate_online else load_gate(config.gate)
    except ConfigurationError as error:
        raise refused(("gate",), f": {error}") from error
    return gate if capacity is None else CappedGate(gate, capacity)


def _capacity(config: MixtureConfig) -> Any:
    if not config.limits:
        if config.limits_deadline != MixtureConfig.model_fields["limits_deadline"].default:
            raise refused(("limits_deadline",), " needs limits; write a table such as [limits.OpenAI].")
        return None
    from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
    from llama_index.packs.mixture_of_agents.gate.limits import Limits

    limits = {pattern: Limits(**dict(entry)) for pattern, entry in config.limits.items()}
    usd, total = (None, None) if config.budget is None else (config.budget.usd, config.budget.total)
    try:
        return Capacity(limits, budget=usd, total=total, deadline=config.limits_deadline)
    except ConfigurationError as error:
        raise refused(("limits",), f": {error}") from error


def refuse_idle_limits(limits: Mapping[str, Any], facts: MixtureFacts) -> None:
    """Refuse limits that mean nobody: a slip in a name would leave a provider without any.

    Raises:
        RefusedError: There are such.
    """
    if not limits:
        return
    from llama_index.packs.mixture_of_agents.gate.limits import means

    seats = [*(seat for layer in facts.layers for seat in layer), facts.aggregator]
    seats += [] if facts.role_writer is None else [facts.role_writer]
    known = [(seat.identity.class_name, str(seat.identity), seat.name) for seat in seats]
    listed = ", ".join(dict.fromkeys(name for names in zip(*known, strict=True) for name in names if name))
    idle = [p for p in limits if not any(means(p, seat.identity, seat.name) for seat in seats)]
    if idle:
        raise RefusedError(
            [Fault(("limits", one), f" means nobody here. Those who are asked: {listed}.") for one in idle]
        )


def _budget(budget: BudgetConfig, prices: Mapping[str, Any]) -> Any:
    from llama_index.packs.mixture_of_agents.records.budget import Budget
    from llama_index.packs.mixture_of_agents.records.prices import Prices

    try:
        return Budget(**_given(**dict(budget)), prices=Prices(prices))
    except ConfigurationError as error:
        raise refused(("budget",), f": {error}") from error


def _trace(trace: TraceConfig) -> Any:
    from llama_index.packs.mixture_of_agents.records.trace import Trace

    try:
        return Trace(trace.path, **_given(folder=trace.folder), redact=_listed(trace.redact))
    except ConfigurationError as error:
        raise refused(("trace",), f": {error}") from error


def _given(**values: Any) -> dict[str, Any]:
    """Those that are said; the others keep the usual value of whoever takes them."""
    return {name: value for name, value in values.items() if value is not None}
