"""A mixture from a file, with what was ordered beside it: what was said wins over what the file says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from llama_index.packs.mixture_of_agents.app.default_mixture import seeds
from llama_index.packs.mixture_of_agents.app.ordering import Order, given, temperatures
from llama_index.packs.mixture_of_agents.config import MixtureConfig, load_config
from llama_index.packs.mixture_of_agents.errors import ConfigurationError


@dataclass(frozen=True)
class Configured:
    """A mixture from a file, and what is left of the order.

    Attributes:
        config: The mixture; what was ordered stands in it.
        order: What the file does not say: who keeps what of runs.
    """

    config: MixtureConfig
    order: Order

    @property
    def names_models(self) -> bool:
        """Whether it says who is asked; else it is the embedded default."""
        return bool(self.config.proposers) or (
            self.config.aggregator is not None and self.config.num_layers == 1
        )

    def options(self) -> dict[str, Any]:
        """The pack's options, for the embedded default; a limit of time holds there only where it is said."""
        options = self.config.options()
        if "timeout" not in self.config.was_set:
            del options["timeout"]
        return options


def configured(order: Order) -> Configured:
    """The mixture of the order's file, with what was ordered in place of what it says.

    Raises:
        ConfigurationError: The file or the order cannot work, or they do not fit together.
    """
    config = load_config(str(order.config))
    changes = given(
        **order.options,
        proposers=_proposers(order, config),
        aggregator=order.aggregator,
        role_writer=order.role_writer,
        gate=order.gate,
        gate_online=order.online or None,
    )
    changes |= given(
        strategy=order.strategy,
        temperatures=temperatures(order.options.get("temperatures")),
        finish=_finish(order, config),
        stop_early=_early_stop(order, config),
        budget=_budget(order, config),
    )
    trace = _trace(order, config)
    return Configured(
        config.updated(**changes, trace=trace), order if trace is None else replace(order, trace=False)
    )


def _trace(order: Order, config: MixtureConfig) -> dict[str, Any] | None:
    """How the file says that runs are written down, in the folder that was ordered; None to go by the order.

    What the file leaves out of traces stays left out, wherever they go: the folder may come from a variable.
    """
    said = config.trace
    if said is None or not order.trace:
        return None
    place = (
        given(path=said.path, folder=said.folder) if order.trace_dir is None else {"folder": order.trace_dir}
    )
    return {**place, "redact": order.redact or said.redact}


def _proposers(order: Order, config: MixtureConfig) -> list[Any] | None:
    """Who proposes, where that is not what the file says: other models, or the same with seeds."""
    if order.models:
        numbered = zip(order.models, seeds(order.seed, len(order.models)), strict=True)
        return [given(model=name, seed=seed) for name, seed in numbered]
    if order.seed is None:
        return None
    rounds = [
        [
            {**entry.model_dump(exclude_unset=True), "seed": order.seed + number}
            for number, entry in enumerate(entries)
        ]
        for entries in config.proposers
    ]
    return rounds[0] if len(rounds) == 1 else rounds or None


def _finish(order: Order, config: MixtureConfig) -> dict[str, Any] | None:
    """The way to finish, where something was ordered of it."""
    kind = order.options.get("finish", config.finish.kind)
    votes, stops = kind == "vote", order.stop_early is not None or config.stop_early is not None
    if order.extract is not None and not (votes or stops):
        raise ConfigurationError(
            f"--extract belongs to --finish vote or to --stop-early; found --finish {kind}, no --stop-early."
        )
    settings = given(window=order.window, extract=order.extract if votes else None)
    if not settings and "finish" not in order.options:
        return None
    said = config.finish.model_dump(exclude_none=True) if kind == config.finish.kind else {"kind": kind}
    return {**said, **settings}


def _early_stop(order: Order, config: MixtureConfig) -> dict[str, Any] | None:
    found = config.stop_early
    extract = order.extract if found is not None and found.kind == "agreement" else None
    if order.stop_early is None and extract is None:
        return None
    said = found.model_dump(exclude_none=True) if found is not None and found.kind == "agreement" else {}
    return {"kind": "agreement", **said, **given(extract=order.extract, share=order.stop_early)}


def _budget(order: Order, config: MixtureConfig) -> dict[str, Any] | None:
    if not order.budget:
        return None
    said = {} if config.budget is None else config.budget.model_dump(exclude_none=True)
    return {**said, **order.budget}
