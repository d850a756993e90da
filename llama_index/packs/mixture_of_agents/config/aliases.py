"""Names of one's own for models: an entry of `models` may refer to another one, but not to itself.

It knows no provider: a name that is no entry is a model's, and stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from llama_index.packs.mixture_of_agents.config.faults import Fault, RefusedError
from llama_index.packs.mixture_of_agents.config.tables import ModelConfig

Entry = TypeVar("Entry", bound=ModelConfig)


def refuse_cycles(models: Mapping[str, ModelConfig]) -> None:
    """Refuse names that lead back to themselves.

    Raises:
        RefusedError: Some do; it names each cycle.
    """
    found = [_cycle_from(name, models) for name in models]
    # From behind, so that of several ways around one cycle the first stays.
    cycles = {frozenset(cycle): cycle for cycle in reversed(found) if cycle}
    if not cycles:
        return
    raise RefusedError(
        [
            Fault(
                ("models", cycle[0]),
                f" is a cycle of names: {' -> '.join([*cycle, cycle[0]])}. Let one of them name a model with "
                "its provider, such as 'openai:gpt-4o-mini'.",
            )
            for cycle in reversed(cycles.values())
        ]
    )


def _cycle_from(start: str, models: Mapping[str, ModelConfig]) -> list[str]:
    """The cycle that this name leads into; empty for none."""
    way: list[str] = []
    name = start
    while name in models:
        if name in way:
            return way[way.index(name) :]
        way.append(name)
        name = models[name].model
    return []


def resolved(entry: Entry, models: Mapping[str, ModelConfig]) -> Entry:
    """An entry with its model's own name, and the settings of every alias on the way to it.

    The nearer settings win: those of the entry, then those of the alias it names, and so on.
    """
    while entry.model in models:
        entry = entry.over(models[entry.model])
    return entry
