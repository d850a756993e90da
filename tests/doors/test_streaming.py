"""Streaming is real: the caller holds each piece before the next is produced, and leaving ends it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ChatResponseAsyncGen
from pydantic import PrivateAttr

from llama_index.packs.mixture_of_agents import DeltaEvent, MixtureOfAgentsPack, MixtureResponse
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

WORDS = ["The ", "sky ", "scatters ", "blue."]
QUESTION = [ChatMessage(content="Why?")]
PATIENCE = 5.0  # seconds the model waits for its caller before it fails the test


class WaitingLLM(ScriptedLLM):
    """Produces a piece only when the caller has said that it holds the one before."""

    _produced: list[str] = PrivateAttr(default_factory=list)
    _held: threading.Semaphore = PrivateAttr(default_factory=lambda: threading.Semaphore(0))
    _closed: threading.Event = PrivateAttr(default_factory=threading.Event)

    def __init__(self) -> None:
        super().__init__("unused", model="g")

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        async def pieces() -> ChatResponseAsyncGen:
            try:
                for number, word in enumerate(WORDS):
                    if number:
                        await self._until_held()
                    self._produced.append(word)
                    text = "".join(self._produced)
                    yield ChatResponse(message=ChatMessage(role="assistant", content=text), delta=word)
            finally:
                self._closed.set()

        return pieces()

    async def _until_held(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._held.acquire(blocking=False):
            if time.monotonic() > deadline:
                raise AssertionError("the caller never got the piece before")
            await asyncio.sleep(0.002)

    def hold(self) -> None:
        self._held.release()


def mixture() -> tuple[MixtureOfAgentsPack, WaitingLLM]:
    aggregator = WaitingLLM()
    return MixtureOfAgentsPack(aggregator, [ScriptedLLM("a draft")]), aggregator


async def pack_astream(pack: MixtureOfAgentsPack) -> AsyncIterator[str]:
    stream = pack.astream("Why?")
    try:
        async for item in stream:
            if isinstance(item, DeltaEvent):
                yield item.delta
            elif isinstance(item, MixtureResponse):
                assert item.text == "".join(WORDS)
    finally:
        await stream.aclose()


async def llm_astream_chat(pack: MixtureOfAgentsPack) -> AsyncIterator[str]:
    stream: Any = await pack.as_llm().astream_chat(QUESTION)
    try:
        async for piece in stream:
            yield piece.delta
    finally:
        await stream.aclose()


async def llm_astream_complete(pack: MixtureOfAgentsPack) -> AsyncIterator[str]:
    stream: Any = await pack.as_llm().astream_complete("Why?")
    try:
        async for piece in stream:
            yield piece.delta
    finally:
        await stream.aclose()


def llm_stream_chat(pack: MixtureOfAgentsPack) -> Iterator[str]:
    return (piece.delta or "" for piece in pack.as_llm().stream_chat(QUESTION))


def llm_stream_complete(pack: MixtureOfAgentsPack) -> Iterator[str]:
    return (piece.delta or "" for piece in pack.as_llm().stream_complete("Why?"))


asynchronous = pytest.mark.parametrize("door", [pack_astream, llm_astream_chat, llm_astream_complete])
blocking = pytest.mark.parametrize("door", [llm_stream_chat, llm_stream_complete])


@asynchronous
async def test_who_awaits_holds_each_piece_before_the_next_is_produced(
    door: Callable[[MixtureOfAgentsPack], AsyncIterator[str]],
) -> None:
    pack, aggregator = mixture()
    held: list[str] = []
    async for delta in door(pack):
        held += [delta] if delta else []
        assert aggregator._produced == held
        aggregator.hold()
    assert held == WORDS


@blocking
def test_who_iterates_holds_each_piece_before_the_next_is_produced(
    door: Callable[[MixtureOfAgentsPack], Iterator[str]],
) -> None:
    pack, aggregator = mixture()
    held: list[str] = []
    for delta in door(pack):
        held += [delta] if delta else []
        assert aggregator._produced == held
        aggregator.hold()
    assert held == WORDS


@blocking
async def test_who_iterates_inside_a_running_loop_does_too(
    door: Callable[[MixtureOfAgentsPack], Iterator[str]],
) -> None:
    test_who_iterates_holds_each_piece_before_the_next_is_produced(door)


@asynchronous
async def test_closing_an_async_stream_early_ends_the_models_stream(
    door: Callable[[MixtureOfAgentsPack], AsyncIterator[str]],
) -> None:
    pack, aggregator = mixture()
    stream: Any = door(pack)
    assert await anext(stream) == WORDS[0]
    await stream.aclose()
    for _ in range(200):
        if aggregator._closed.is_set():
            break
        await asyncio.sleep(0.005)
    assert aggregator._closed.is_set()
    assert aggregator._produced == WORDS[:1]


@pytest.mark.parametrize("method", ["stream_chat", "stream_complete"])
def test_closing_a_blocking_stream_early_ends_the_models_stream(method: str) -> None:
    pack, aggregator = mixture()
    stream = getattr(pack.as_llm(), method)(QUESTION if "chat" in method else "Why?")
    assert next(stream).delta == WORDS[0]
    stream.close()
    assert aggregator._closed.wait(2)
    assert aggregator._produced == WORDS[:1]


def test_dropping_a_blocking_stream_ends_the_models_stream() -> None:
    pack, aggregator = mixture()
    for piece in pack.as_llm().stream_chat(QUESTION):
        assert piece.delta == WORDS[0]
        break
    assert aggregator._closed.wait(2)


async def test_cancelling_who_streams_ends_the_models_stream() -> None:
    pack, aggregator = mixture()

    async def listen() -> None:
        async for _ in pack.astream("Why?"):
            pass

    listening = asyncio.ensure_future(listen())
    for _ in range(1000):
        await asyncio.sleep(0.002)
        if aggregator._produced:
            break
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    for _ in range(200):
        if aggregator._closed.is_set():
            return
        await asyncio.sleep(0.005)
    pytest.fail("the model's stream goes on")


async def test_pieces_hold_the_text_so_far_and_the_last_the_whole_and_how_it_came_about() -> None:
    llm = MixtureOfAgentsPack(ScriptedLLM("one two three"), [ScriptedLLM("a draft")]).as_llm()
    pieces = [piece async for piece in await llm.astream_chat(QUESTION)]
    assert [piece.message.content for piece in pieces] == [
        "one ",
        "one two ",
        "one two three",
        "one two three",
    ]
    raw: Any = pieces[-1].raw
    assert raw["proposals"][0]["text"] == "a draft"
