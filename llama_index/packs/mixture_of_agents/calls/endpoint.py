"""One model or agent behind one way of calling it: messages in, a reply or its deltas out.

Hides what LLM classes do differently: where settings go, whether async methods are real or sync
underneath, retries and connections of their own, where token counts stand. It does not know layers,
prompts or why it is called.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Protocol

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ContentBlock, MessageRole, TextBlock
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.llm import LLM

from llama_index.packs.mixture_of_agents.calls.connections import LoopViews
from llama_index.packs.mixture_of_agents.calls.hearing import Hearing
from llama_index.packs.mixture_of_agents.calls.sampling import (
    Sampling,
    definer,
    integration_classes,
    settle,
    split_options,
)
from llama_index.packs.mixture_of_agents.calls.threads import in_thread, iterate_in_thread
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.reports import details_of, usage_of, was_cut
from llama_index.packs.mixture_of_agents.results import Usage

_logger = logging.getLogger(__name__)

_LAST_WORDS = 1.0
"""Seconds to wait for an ended agent's last events."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Reply:
    """A reply, or as much of one as a stream has brought.

    Attributes:
        message: What was said so far.
        usage: What it took, as reported.
        delta: The newest piece of a stream.
        details: What else the provider reported, as JSON.
    """

    message: ChatMessage
    usage: Usage = field(default_factory=Usage)
    delta: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The message's text."""
        return self.message.content or ""

    @property
    def was_cut(self) -> bool:
        """Whether it ended because it was as long as it might be."""
        return was_cut(self.details)


class Endpoint(Protocol):
    """What the mixture calls."""

    stoppable: bool
    """False when a cancelled call goes on in its thread, unheard."""

    async def reply(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> Reply:
        """One call, one reply."""

    def stream(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> AsyncGenerator[Reply, None]:
        """The reply as it grows; leaving the generator ends the call."""


class LLMEndpoint:
    """A LlamaIndex LLM with its settings.

    Args:
        llm: The caller's LLM; it is never changed.
        sampling: Settings that travel with each call.
    """

    def __init__(self, llm: LLM, sampling: Sampling) -> None:
        self._own = sampling
        self._settled = _Settled.of(llm, sampling)
        # Not a method's cache: who lets go of an endpoint lets go of its connections at once.
        self._otherwise_settled = lru_cache(maxsize=8)(partial(_Settled.of, llm))
        self.stoppable = is_async(llm, "achat")
        self._streams = is_async(llm, "astream_chat")

    async def reply(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> Reply:
        """One call, one reply; a class with sync methods only runs in a worker thread."""
        settled, arguments = self._settled_for(options)
        llm = await settled.views.here()
        if self.stoppable:
            try:
                return _reply(await llm.achat(list(messages), **arguments))
            except NotImplementedError:
                self.stoppable = False
        return _reply(await in_thread(lambda: llm.chat(list(messages), **arguments)))

    async def stream(
        self, messages: Sequence[ChatMessage], options: dict[str, Any]
    ) -> AsyncGenerator[Reply, None]:
        """The reply as it grows; leaving the iterator closes the model's stream."""
        settled, arguments = self._settled_for(options)
        llm = await settled.views.here()
        responses = await self._open(llm, messages, {**arguments, **stream_options(llm)})
        usage, details = Usage(), dict[str, Any]()
        try:
            async for response in responses:
                reply = _reply(response)
                usage, details = _latest(reply.usage, usage), {**details, **reply.details}
                yield replace(reply, message=_without_repeats(reply.message), usage=usage, details=details)
        finally:
            if hasattr(responses, "aclose"):  # an iterator of a class's own may have nothing to close
                await responses.aclose()

    async def _open(self, llm: LLM, messages: Sequence[ChatMessage], arguments: dict[str, Any]) -> Any:
        if not self._streams:
            return iterate_in_thread(lambda: llm.stream_chat(list(messages), **arguments))
        responses = await llm.astream_chat(list(messages), **arguments)
        if not hasattr(responses, "__aiter__"):
            raise MixtureError(
                f"astream_chat of {type(llm).__name__} returned {responses!r}; it should return an async "
                "generator of ChatResponse, or raise NotImplementedError."
            )
        return responses

    def _settled_for(self, options: dict[str, Any]) -> tuple[_Settled, dict[str, Any]]:
        """The LLM with the settings among the options over its own, and the call's arguments."""
        asked, others = split_options(options)
        sampling = asked.over(self._own)
        settled = self._settled if sampling == self._own else self._otherwise_settled(sampling)
        return settled, {**settled.arguments, **others}


@dataclass(frozen=True)
class _Settled:
    """An LLM with settings in its form: as each event loop calls it, and with which arguments."""

    views: LoopViews
    arguments: dict[str, Any]

    @classmethod
    def of(cls, llm: LLM, sampling: Sampling) -> _Settled:
        settled, arguments = settle(llm, sampling)
        return cls(LoopViews(settled), arguments)


def is_async(llm: LLM, method: str) -> bool:
    """False where a class only inherits CustomLLM's async method, which blocks the loop."""
    return definer(llm, method) is not CustomLLM


def stream_options(llm: LLM) -> dict[str, Any]:
    """Arguments that have a stream's tokens counted, for OpenAI; look-alikes may refuse them."""
    its_own = type(llm).__name__ == "OpenAI" and "OpenAI" in integration_classes(llm)
    return {"stream_options": {"include_usage": True}} if its_own else {}


def _latest(usage: Usage, before: Usage) -> Usage:
    """Anthropic counts what was read at a stream's beginning and what was written at its end."""
    said = usage.model_dump(exclude_none=True, exclude={"estimated"})
    return before.model_copy(update=said) if said else before


def _without_repeats(message: ChatMessage) -> ChatMessage:
    """MistralAI repeats the text so far as a further block with each piece; only the last one counts."""
    texts = [block for block in message.blocks if isinstance(block, TextBlock)]
    if len(texts) < 2 or not all(b.text.startswith(a.text) for a, b in itertools.pairwise(texts)):
        return message
    others = [block for block in message.blocks if not isinstance(block, TextBlock)]
    return message.model_copy(update={"blocks": [*others, texts[-1]]})


def _reply(response: ChatResponse) -> Reply:
    delta = _encodable_text(response.delta or "")
    return Reply(_encodable(response.message), usage_of(response), delta, details_of(response))


def _encodable(message: ChatMessage) -> ChatMessage:
    """The message as UTF-8 can hold it; nothing is copied where it already is."""
    blocks = [_encodable_block(block) for block in message.blocks]
    if all(new is old for new, old in zip(blocks, message.blocks, strict=True)):
        return message
    return message.model_copy(update={"blocks": blocks})


def _encodable_block(block: ContentBlock) -> ContentBlock:
    if not isinstance(block, TextBlock):
        return block
    text = _encodable_text(block.text)
    return block if text is block.text else block.model_copy(update={"text": text})


def _encodable_text(text: str) -> str:
    # JSON can spell half a surrogate pair, which no encoder takes; two halves make one character.
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class AgentEndpoint:
    """A LlamaIndex workflow agent: its `run(user_msg=..., chat_history=...)` answers.

    The tools it called, and what they brought, stand in the reply's details; see `hearing`.

    Args:
        agent: A FunctionAgent, ReActAgent, AgentWorkflow or anything with their `run`, which gives the
            answer or something to await for it.
    """

    stoppable = True

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    async def reply(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> Reply:
        """Run the agent on the last message, with the ones before as its history."""
        *history, last = messages
        output, hearing = self._agent.run(user_msg=last, chat_history=list(history)), Hearing()
        if inspect.isawaitable(output):
            output = await _heard(output, hearing)
        message, usage = getattr(output, "response", output), _usage_of_run(output, hearing)
        if isinstance(message, ChatMessage):
            return Reply(_encodable(_without_repeats(message)), usage, details=hearing.details())
        if message is None or any(hasattr(message, name) for name in ("__anext__", "__next__")):
            raise MixtureError(
                f"run() of the agent {type(self._agent).__name__} gave {message!r}; it should give its "
                "answer, or something to await for it."
            )
        text = _encodable_text(str(message))
        message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
        return Reply(message, usage, details=hearing.details())

    async def stream(
        self, messages: Sequence[ChatMessage], options: dict[str, Any]
    ) -> AsyncGenerator[Reply, None]:
        """An agent answers in one piece."""
        reply = await self.reply(messages, options)
        yield replace(reply, delta=reply.text)


def _usage_of_run(output: Any, hearing: Hearing) -> Usage:
    """What an agent took by its own word, as a crew or a mixture gives it, or else what was heard."""
    said = getattr(output, "usage", None)
    return said if isinstance(said, Usage) else hearing.usage


async def _heard(handler: Awaitable[Any], hearing: Hearing) -> Any:
    """The run's end, its events listened to on the way, where it has any."""
    if not hasattr(handler, "stream_events"):
        return await _ended(handler)
    listening = asyncio.ensure_future(_listen(handler, hearing))
    try:
        output = await _ended(handler)
        # What it did last may still be on its way.
        await asyncio.wait({listening}, timeout=_LAST_WORDS)
        return output
    finally:
        listening.cancel()


async def _listen(handler: Any, hearing: Hearing) -> None:
    try:
        async for event in handler.stream_events():
            hearing.hear(event)
    except Exception as error:  # the run's own error is for whoever awaits it
        _logger.debug("an agent's events broke off: %r", error)


async def _ended(handler: Awaitable[Any]) -> Any:
    ended = asyncio.ensure_future(handler)
    try:
        # Not the handler itself: that would cancel the runtime's loop, which then forgets its tasks.
        await asyncio.wait({ended})
    except asyncio.CancelledError:
        await _cancel_run(handler, ended)
        raise
    return ended.result()


async def _cancel_run(handler: Any, ended: asyncio.Future[Any]) -> None:
    if hasattr(handler, "cancel_run"):
        await handler.cancel_run()
    else:
        ended.cancel()
    await asyncio.gather(ended, return_exceptions=True)
