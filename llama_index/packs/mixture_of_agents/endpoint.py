"""One model or agent behind one way of calling it: messages in, a reply or its deltas out.

Hides what LLM classes do differently: where settings go, whether async methods are real or sync
underneath, retries of their own, where token counts stand. It does not know layers, prompts or why it
is called.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.llm import LLM

from llama_index.packs.mixture_of_agents.results import Usage
from llama_index.packs.mixture_of_agents.sampling import Sampling, settle
from llama_index.packs.mixture_of_agents.threads import in_thread, iterate_in_thread


@dataclass(frozen=True)
class Reply:
    """A reply, or as much of one as a stream has brought: `delta` is its newest piece."""

    message: ChatMessage
    usage: Usage = Usage()
    delta: str = ""

    @property
    def text(self) -> str:
        return self.message.content or ""


class Endpoint(Protocol):
    """What the mixture calls."""

    stoppable: bool
    """False when a cancelled call goes on in its thread, unheard."""

    async def reply(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> Reply: ...

    def stream(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> AsyncIterator[Reply]: ...


class LLMEndpoint:
    """A LlamaIndex LLM with its settings.

    Args:
        llm: The caller's LLM; it is never changed.
        sampling: Settings that travel with each call.
    """

    def __init__(self, llm: LLM, sampling: Sampling) -> None:
        self._settled, self._options = settle(llm, sampling)
        self._views: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LLM] = weakref.WeakKeyDictionary()
        self.stoppable = has_async_chat(llm)

    async def reply(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> Reply:
        """One call, one reply; a class with sync methods only runs in a worker thread."""
        llm, arguments = self._view(), {**self._options, **options}
        if self.stoppable:
            response = await llm.achat(list(messages), **arguments)
        else:
            response = await in_thread(lambda: llm.chat(list(messages), **arguments))
        return _reply(response)

    async def stream(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> AsyncIterator[Reply]:
        """The reply as it grows; leaving the iterator closes the model's stream."""
        llm, arguments = self._view(), {**self._options, **options, **_stream_options(self._settled)}
        if self.stoppable:
            responses = await llm.astream_chat(list(messages), **arguments)
        else:
            responses = iterate_in_thread(lambda: llm.stream_chat(list(messages), **arguments))
        try:
            async for response in responses:
                yield _reply(response)
        finally:
            await responses.aclose()

    def _view(self) -> LLM:
        """The LLM to call on this event loop: with an HTTP client of the loop's own where the class
        keeps one, because a connection pool cannot serve two loops."""
        loop = asyncio.get_running_loop()
        if loop not in self._views:
            self._views[loop] = without_own_retries(self._settled)
        return self._views[loop]


def has_async_chat(llm: LLM) -> bool:
    """False for classes that only inherit CustomLLM's async methods, which block the loop."""
    return type(llm).achat is not CustomLLM.achat


def without_own_retries(llm: LLM) -> LLM:
    """A copy whose client does not retry, so that the mixture alone counts attempts.

    OpenAI and Anthropic retry in the client, OpenAI a second time in a decorator; both read
    `max_retries`. Clients that exist are derived from, and so keep their connection pool.
    """
    names = {ancestor.__name__ for ancestor in type(llm).__mro__}
    if not names & {"OpenAI", "OpenAIResponses", "Anthropic"} or "max_retries" not in type(llm).model_fields:
        return llm
    view = llm.model_copy(update={"max_retries": 0})
    for attribute in ("_client", "_aclient"):
        client = getattr(view, attribute, None)
        if hasattr(client, "with_options"):
            setattr(view, attribute, client.with_options(max_retries=0))
    return view


def _stream_options(llm: LLM) -> dict[str, Any]:
    # OpenAI counts a stream's tokens only on request; look-alikes may refuse the request.
    return {"stream_options": {"include_usage": True}} if type(llm).__name__ == "OpenAI" else {}


def _reply(response: ChatResponse) -> Reply:
    return Reply(response.message, usage_of(response), response.delta or "")


class AgentEndpoint:
    """A LlamaIndex workflow agent: its `run(user_msg=..., chat_history=...)` answers.

    Args:
        agent: A FunctionAgent, ReActAgent, AgentWorkflow or anything with their `run`.
    """

    stoppable = True

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    async def reply(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> Reply:
        """Run the agent on the last message, with the ones before as its history."""
        *history, last = messages
        handler = self._agent.run(user_msg=last, chat_history=list(history))
        try:
            output = await handler
        except asyncio.CancelledError:
            await handler.cancel_run()
            raise
        message = getattr(output, "response", output)
        if not isinstance(message, ChatMessage):
            message = ChatMessage(role=MessageRole.ASSISTANT, content=str(message))
        return Reply(message)

    async def stream(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> AsyncIterator[Reply]:
        """An agent answers in one piece."""
        reply = await self.reply(messages, options)
        yield Reply(reply.message, reply.usage, reply.text)


_PROMPT_NAMES = ("prompt_tokens", "input_tokens", "prompt_token_count", "prompt_eval_count")
_COMPLETION_NAMES = ("completion_tokens", "output_tokens", "candidates_token_count", "eval_count")


def usage_of(response: ChatResponse) -> Usage:
    """Token counts from wherever this provider puts them; None where it gives none."""
    raw = response.raw
    holders = [_part(raw, "usage"), _part(raw, "usage_metadata"), response.additional_kwargs, raw]
    return Usage(
        prompt_tokens=_first_count(holders, _PROMPT_NAMES),
        completion_tokens=_first_count(holders, _COMPLETION_NAMES),
    )


def _first_count(holders: Sequence[Any], names: Sequence[str]) -> int | None:
    counts = (_part(holder, name) for holder in holders for name in names)
    return next((count for count in counts if isinstance(count, int)), None)


def _part(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)
