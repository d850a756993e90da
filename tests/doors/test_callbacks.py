"""Callbacks and instrumentation: each call fires once, for the mixture and for every member."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, CBEventType
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatStartEvent,
    LLMCompletionEndEvent,
    LLMCompletionStartEvent,
)
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr

from llama_index.packs.mixture_of_agents import MixtureOfAgentsLLM, MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

ASKED = [ChatMessage(content="Why?")]
Method = Callable[[MixtureOfAgentsLLM], Awaitable[Any]]


class CountingHandler(BaseCallbackHandler):
    """Counts the starts and ends of LLM events."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.count: Counter[str] = Counter()
        self.answers: list[str] = []

    def on_event_start(self, event_type: CBEventType, *_: Any, event_id: str = "", **__: Any) -> str:
        if event_type == CBEventType.LLM:
            self.count["start"] += 1
        return event_id

    def on_event_end(
        self, event_type: CBEventType, payload: dict[str, Any] | None = None, event_id: str = "", **_: Any
    ) -> None:
        if event_type == CBEventType.LLM:
            self.count["end"] += 1
            self.answers.append(str((payload or {}).get("response") or (payload or {}).get("completion")))

    def start_trace(self, trace_id: str | None = None) -> None: ...

    def end_trace(self, *_: Any, **__: Any) -> None: ...


class Listener(BaseEventHandler):
    """Counts the starts of chats and completions by class, and the ends of all."""

    _starts: Counter[str] = PrivateAttr(default_factory=Counter)
    _ends: Counter[str] = PrivateAttr(default_factory=Counter)

    @classmethod
    def class_name(cls) -> str:
        return "Listener"

    def handle(self, event: BaseEvent, **_: Any) -> None:
        if isinstance(event, (LLMChatStartEvent, LLMCompletionStartEvent)):
            self._starts[event.model_dict["class_name"]] += 1
        elif isinstance(event, (LLMChatEndEvent, LLMCompletionEndEvent)):
            self._ends[type(event).__name__] += 1


@pytest.fixture
def listener() -> Iterator[Listener]:
    root, heard = get_dispatcher("root"), Listener()
    root.add_event_handler(heard)
    yield heard
    root.event_handlers.remove(heard)


async def chat(llm: MixtureOfAgentsLLM) -> None:
    llm.chat(ASKED)


async def achat(llm: MixtureOfAgentsLLM) -> None:
    await llm.achat(ASKED)


async def stream_chat(llm: MixtureOfAgentsLLM) -> None:
    list(llm.stream_chat(ASKED))


async def astream_chat(llm: MixtureOfAgentsLLM) -> None:
    [piece async for piece in await llm.astream_chat(ASKED)]


async def complete(llm: MixtureOfAgentsLLM) -> None:
    llm.complete("Why?")


async def acomplete(llm: MixtureOfAgentsLLM) -> None:
    await llm.acomplete("Why?")


async def stream_complete(llm: MixtureOfAgentsLLM) -> None:
    list(llm.stream_complete("Why?"))


async def astream_complete(llm: MixtureOfAgentsLLM) -> None:
    [piece async for piece in await llm.astream_complete("Why?")]


every_method = pytest.mark.parametrize(
    "method",
    [chat, achat, stream_chat, astream_chat, complete, acomplete, stream_complete, astream_complete],
    ids=lambda method: method.__name__,
)


def mixture() -> MixtureOfAgentsLLM:
    proposers = [ScriptedLLM("a draft", model="a"), ScriptedLLM("another", model="b")]
    return MixtureOfAgentsPack(ScriptedLLM("the answer", model="g"), proposers).as_llm()


@every_method
async def test_each_method_fires_the_mixtures_callbacks_once(method: Method) -> None:
    llm, handler = mixture(), CountingHandler()
    llm.callback_manager = CallbackManager([handler])
    await method(llm)
    assert handler.count == {"start": 1, "end": 1}
    assert "the answer" in handler.answers[0]


@every_method
async def test_each_call_of_the_mixture_and_of_its_members_is_one_event(
    method: Method, listener: Listener
) -> None:
    await method(mixture())
    assert listener._starts == {"MixtureOfAgentsLLM": 1, "ScriptedLLM": 5}


async def test_every_start_has_its_end(listener: Listener) -> None:
    await chat(mixture())
    assert listener._ends == {"LLMChatEndEvent": 6}
