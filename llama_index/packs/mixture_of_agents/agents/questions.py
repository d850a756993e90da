"""Questions that tools of a run put to whoever reads its stream, and the answers that come back.

Who answers, and what is written after a yes, is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from llama_index.packs.mixture_of_agents.agents.events import WriteDecisionEvent, WriteQuestionEvent
from llama_index.packs.mixture_of_agents.errors import ToolError


class Questions:
    """The open questions of one run."""

    def __init__(self) -> None:
        self._write: Callable[[WriteQuestionEvent], None] | None = None
        self._open: dict[int, Future[bool]] = {}
        self._asked = 0

    def go_to(self, write: Callable[[WriteQuestionEvent], None]) -> None:
        """From now on there is someone to ask: `write` puts a question on the run's stream."""
        self._write = write

    async def ask(self, what: str) -> bool:
        """Ask, and wait for the answer.

        Args:
            what: What is about to be written, and where.

        Raises:
            ToolError: Nobody reads the stream.
        """
        if self._write is None:
            raise ToolError(f"not done: {what} needs a confirmation, and nobody reads this run's stream")
        self._asked += 1
        number, answer = self._asked, Future[bool]()
        self._open[number] = answer
        try:
            self._write(WriteQuestionEvent(question=number, what=what))
            return await asyncio.wrap_future(answer)
        finally:
            del self._open[number]

    def answer(self, decision: WriteDecisionEvent) -> None:
        """Pass an answer on; one that comes too late, or twice, changes nothing."""
        answer = self._open.get(decision.question)
        if answer is not None and not answer.done():
            answer.set_result(decision.approved)
