"""How many of a kind may be at work inside each other: one that asks itself would ask for ever.

Whatever runs within the block, in whichever task, counts as inside. What is nested is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Nesting:
    """Counts those of one kind that are inside each other in a context.

    Args:
        kind: A name that no other kind has.
        deepest: How many may be.
    """

    def __init__(self, kind: str, deepest: int) -> None:
        self.deepest = deepest
        self._depth: ContextVar[int] = ContextVar(f"mixture_of_agents_{kind}_depth", default=0)

    @contextmanager
    def one_more(self, refusal: Callable[[int], Exception]) -> Iterator[None]:
        """Another one begins within the block.

        Args:
            refusal: What is raised where there are so many already.
        """
        depth = self._depth.get()
        if depth >= self.deepest:
            raise refusal(depth)
        token = self._depth.set(depth + 1)
        try:
            yield
        finally:
            self._depth.reset(token)
