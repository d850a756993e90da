"""How large prompts are before there is anything to put in them: a question, what stands around it, drafts.

The prompts are built by `prompts`, with empty drafts; the size of the drafts is added. So no text has to
be made up, and a long question is measured once. This module knows no calls and no prices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.prompts import (
    HOW_TO_REPLY,
    aggregator_messages,
    condenser_messages,
    proposer_messages,
    ranking_messages,
    role_writer_messages,
    split_system,
    without_tool_turns,
)
from llama_index.packs.mixture_of_agents.results import Task

Measure = Callable[[Sequence[ChatMessage]], int]

_READERS = {
    "synthesize": aggregator_messages,
    "condense": condenser_messages,
    "rank": ranking_messages,
}


class Frames:
    """Sizes of the prompts that a question leads to.

    Args:
        messages: The question.
        measure: The size of a prompt.
    """

    def __init__(self, messages: Sequence[ChatMessage], measure: Measure) -> None:
        self._messages = without_tool_turns(messages)
        self._measure = measure
        self._question = measure(self._messages)
        leads = [ChatMessage(role=MessageRole.SYSTEM, content="")] if split_system(self._messages)[0] else []
        self._stub = [*leads, ChatMessage(role=MessageRole.USER, content="")]
        self._around: dict[tuple[object, ...], int] = {}

    def size(self, task: Task, seat: SeatFacts, drafts: Sequence[int], absent: Sequence[str] = ()) -> int:
        """The size of one prompt.

        Args:
            task: What it is for; not "roles".
            seat: Who reads it.
            drafts: Sizes of the drafts in it.
            absent: Names it may have to tell as missing.
        """
        key = (task, seat.role, seat.shares_prefix, len(drafts), *absent)
        if key not in self._around:
            framed = self._framed(task, seat, [""] * len(drafts), absent)
            self._around[key] = self._measure(framed) - self._measure(self._stub)
        return self._question + self._around[key] + sum(drafts)

    def size_for_roles(self, count: int) -> int:
        """The size of the prompt that asks for so many roles."""
        return self._measure(role_writer_messages(self._messages, count))

    def _framed(
        self, task: Task, seat: SeatFacts, drafts: Sequence[str], absent: Sequence[str]
    ) -> list[ChatMessage]:
        if task in _READERS:
            role = seat.role if task != "condense" else None
            return _READERS[task](self._stub, drafts, absent, role)
        role = f"({HOW_TO_REPLY} {seat.role})" if seat.role and seat.shares_prefix else seat.role
        return proposer_messages(self._stub, role, drafts, absent)
