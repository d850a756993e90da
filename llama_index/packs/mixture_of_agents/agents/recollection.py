"""What a member of a crew remembers at a task, and what it keeps of it.

Notes of earlier runs come from its notebook, what it did before in this run from its working memory. A memory
that fails costs no task, and is told. How memories are kept is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.tools import FunctionTool

from llama_index.packs.mixture_of_agents.agents.events import CrewEvent, RememberEvent
from llama_index.packs.mixture_of_agents.agents.members import Member
from llama_index.packs.mixture_of_agents.agents.memory import MemoryTools, NotesMemoryBlock, RunMemory
from llama_index.packs.mixture_of_agents.calls.hearing import cut
from llama_index.packs.mixture_of_agents.calls.retries import describe
from llama_index.packs.mixture_of_agents.calls.threads import in_thread

_SHOWN = 500
"""Characters of a note in an event."""


@dataclass(frozen=True)
class Recalled:
    """What came to mind.

    Attributes:
        notes: Of earlier runs.
        history: Earlier tasks of this run, and what was said to them.
    """

    notes: list[str] = field(default_factory=list)
    history: list[ChatMessage] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many notes and earlier messages."""
        return len(self.notes) + len(self.history)


@dataclass(frozen=True)
class Recollection:
    """A member's memories during one run.

    Args:
        member: Who remembers.
        working: Its memory of this run; None for none.
        lock: Held while that is read or written.
        tell: Told what is recalled and kept.
        at: The task and the agent, for what is told.
    """

    member: Member
    working: RunMemory | None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tell: Callable[[CrewEvent], None] = lambda event: None
    at: Mapping[str, Any] = field(default_factory=dict)

    def told_to(self, tell: Callable[[CrewEvent], None], at: Mapping[str, Any]) -> Recollection:
        """The same, which tells what it does."""
        return replace(self, tell=tell, at=at)

    def tools(self) -> list[FunctionTool]:
        """Tools with which a model keeps and looks up notes of its own."""
        notebook, run_id = self.member.memory, self.working.run_id if self.working else ""
        return [] if notebook is None else MemoryTools(notebook, self.member.name, run_id=run_id).tools()

    async def recall(self, about: str) -> Recalled:
        """What has to do with a task."""
        if self.working is None:
            return Recalled()
        try:
            recalled = Recalled(await self._notes(about), await self._history())
        except Exception as error:
            self.tell(RememberEvent(**self.at, kind="recalls", failed=describe(error)))
            return Recalled()
        texts = [*recalled.notes, *(message.content or "" for message in recalled.history)]
        self.tell(RememberEvent(**self.at, kind="recalls", texts=[cut(text, _SHOWN) for text in texts]))
        return recalled

    async def keep(self, task: str, said: str) -> None:
        """Keep a task and what was said to it, and what is to be drawn from them for later runs."""
        if self.working is None:
            return
        messages = [
            ChatMessage(role=MessageRole.USER, content=task),
            ChatMessage(role=MessageRole.ASSISTANT, content=said),
        ]
        try:
            async with self.lock:
                await self.working.of(self.member.name).aput_messages(messages)
            facts = await self._drawn(messages)
        except Exception as error:
            self.tell(RememberEvent(**self.at, kind="keeps", failed=describe(error)))
            return
        self.tell(RememberEvent(**self.at, kind="keeps", texts=[cut(text, _SHOWN) for text in facts]))

    async def _notes(self, about: str) -> list[str]:
        notebook = self.member.memory
        if notebook is None:
            return []
        block = NotesMemoryBlock(agent=self.member.name, notebook=notebook)
        return [note.text for note in await in_thread(lambda: block.relevant(about))]

    async def _history(self) -> list[ChatMessage]:
        if self.working is None:
            return []
        async with self.lock:
            messages = await self.working.of(self.member.name).aget()
        # Notes are given as material, not among the turns.
        return [message for message in messages if message.role != MessageRole.SYSTEM]

    async def _drawn(self, messages: list[ChatMessage]) -> list[str]:
        notebook, extractor, name = self.member.memory, self.member.extractor, self.member.name
        if notebook is None or extractor is None:
            return []
        known = await in_thread(lambda: notebook.inspect(name))
        facts = await extractor.facts(messages, [note.text for note in known])
        run_id = self.working.run_id if self.working else ""
        await in_thread(lambda: [notebook.remember(name, fact, run_id=run_id) for fact in facts])
        return facts
