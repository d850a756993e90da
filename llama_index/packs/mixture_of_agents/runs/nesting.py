"""How deep mixtures ask inside each other: one whose proposer asks it again would ask for ever.

What a run is, is not known here.
"""

from __future__ import annotations

from contextvars import ContextVar

from llama_index.packs.mixture_of_agents.errors import MixtureError

DEEPEST = 4
"""Each level may ask as many times as it has calls: four are thousands."""

_depth: ContextVar[int] = ContextVar("mixture_of_agents_run_depth", default=0)


def go_deeper() -> None:
    """A run begins in this context, perhaps inside another.

    Raises:
        MixtureError: Too many are inside each other.
    """
    depth = _depth.get()
    if depth >= DEEPEST:
        raise MixtureError(
            f"A mixture was not run: {depth} are at work inside each other, and no more may be; one of them "
            "seems to ask itself, through a tool perhaps."
        )
    _depth.set(depth + 1)
