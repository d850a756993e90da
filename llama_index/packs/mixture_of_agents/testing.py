"""Models for testing a mixture without a model: they say what they are told to, and remember.

Shipped, so that users can test their own mixtures. They know nothing of mixtures.

    a = ScriptedLLM(["first answer", RuntimeError("down"), "third answer"], model="a")
    b = ScriptedLLM(lambda messages: messages[-1].content.upper(), model="b")
    c = LatencyLLM(0.2, model="c")
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from pydantic import Field, PrivateAttr

from llama_index.packs.mixture_of_agents.errors import MixtureError

Answer = str | ChatMessage | BaseException
"""What a script gives for one call: text, a message (with tool calls, say), or an error to raise."""
Script = str | Sequence[Answer] | Callable[[Sequence[ChatMessage]], Answer]


class ScriptExhaustedError(MixtureError):
    """A scripted model was called more often than its script has answers."""


@dataclass(frozen=True)
class RecordedCall:
    """One call a scripted model received.

    Attributes:
        method: The name of the LLM method, "achat" for instance.
        messages: What it was sent.
        options: The call's keyword arguments.
    """

    method: str
    messages: list[ChatMessage]
    options: dict[str, Any]

    @property
    def text(self) -> str:
        """Everything it was sent, as one text."""
        return "\n".join(message.content or "" for message in self.messages)


@dataclass
class _Reel:
    """The script and its place in it; one for all copies of a model, safe across threads."""

    script: Script
    calls: list[RecordedCall] = field(default_factory=list)
    answered: int = 0
    in_flight: int = 0
    peak: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def received(self, call: RecordedCall) -> Iterator[None]:
        """A call comes in, and is under way within the block."""
        with self.lock:
            self.calls.append(call)
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
        try:
            yield
        finally:
            with self.lock:
                self.in_flight -= 1

    def answer(self, model: str, messages: Sequence[ChatMessage]) -> Answer:
        """The next answer; a call that is cancelled before this takes none."""
        with self.lock:
            number = self.answered
            self.answered += 1
        if isinstance(self.script, str):
            return self.script
        if callable(self.script):
            return self.script(messages)
        if number >= len(self.script):
            raise ScriptExhaustedError(
                f"{model} was called {number + 1} times, but its script has {len(self.script)} answers. "
                "Add answers, or pass a function."
            )
        return self.script[number]


class ScriptedLLM(FunctionCallingLLM):
    """An LLM that gives scripted answers and records what it was sent.

    Args:
        script: One text for every call; or answers in order, running out of which is an error; or a
            function of the messages. An answer is a text, a ChatMessage, or an error to raise.
        model: Its model name.
        latency: Seconds before each answer; real waiting, of the loop's or the thread's kind.
        context_window: As its metadata says, in tokens.
        num_output: Likewise; -1 for unknown.
        is_function_calling_model: Likewise.
    """

    model: str = "scripted"
    latency: float = 0.0
    context_window: int = 128_000
    num_output: int = -1
    is_function_calling_model: bool = False
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)
    _reel: _Reel = PrivateAttr()

    def __init__(self, script: Script, **settings: Any) -> None:
        super().__init__(**settings)
        self._reel = _Reel(script)

    @classmethod
    def class_name(cls) -> str:
        """Name the class for serialisation."""
        return "ScriptedLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What it was told to say of itself."""
        return LLMMetadata(
            model_name=self.model,
            context_window=self.context_window,
            num_output=self.num_output,
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model,
        )

    @property
    def calls(self) -> list[RecordedCall]:
        """Every call so far, in the order they came in; those cancelled later too."""
        return self._reel.calls

    @property
    def answered(self) -> int:
        """How many calls came to their answer or error."""
        return self._reel.answered

    @property
    def in_flight(self) -> int:
        """How many calls are under way now."""
        return self._reel.in_flight

    @property
    def peak_in_flight(self) -> int:
        """Most calls that were under way at one time."""
        return self._reel.peak

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The next answer of the script."""
        return self._chat("chat", messages, kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The next answer of the script."""
        return await self._achat("achat", messages, kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """The next answer of the script, word by word."""

        def pieces() -> ChatResponseGen:
            yield from in_pieces(self._chat("stream_chat", messages, kwargs))

        return pieces()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The next answer of the script, word by word."""

        async def pieces() -> ChatResponseAsyncGen:
            for piece in in_pieces(await self._achat("astream_chat", messages, kwargs)):
                yield piece

        return pieces()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The next answer of the script."""
        return _completion(self._chat("complete", _as_messages(prompt), kwargs))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The next answer of the script."""
        return _completion(await self._achat("acomplete", _as_messages(prompt), kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """The next answer of the script, word by word."""

        def pieces() -> CompletionResponseGen:
            whole = self._chat("stream_complete", _as_messages(prompt), kwargs)
            yield from map(_completion, in_pieces(whole))

        return pieces()

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """The next answer of the script, word by word."""

        async def pieces() -> CompletionResponseAsyncGen:
            whole = await self._achat("astream_complete", _as_messages(prompt), kwargs)
            for piece in in_pieces(whole):
                yield _completion(piece)

        return pieces()

    def _chat(self, method: str, messages: Sequence[ChatMessage], options: dict[str, Any]) -> ChatResponse:
        with self._reel.received(RecordedCall(method, list(messages), dict(options))):
            if self.latency:
                time.sleep(self.latency)
            return self._answer(messages)

    async def _achat(
        self, method: str, messages: Sequence[ChatMessage], options: dict[str, Any]
    ) -> ChatResponse:
        with self._reel.received(RecordedCall(method, list(messages), dict(options))):
            if self.latency:
                await asyncio.sleep(self.latency)
            return self._answer(messages)

    def _answer(self, messages: Sequence[ChatMessage]) -> ChatResponse:
        answer = self._reel.answer(self.model, messages)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, str):
            answer = ChatMessage(role=MessageRole.ASSISTANT, content=answer)
        return ChatResponse(message=answer, raw={"usage": _word_counts(messages, answer)})

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        asked = (
            [ChatMessage(content=user_msg)] if isinstance(user_msg, str) else [user_msg] if user_msg else []
        )
        specs = [tool.metadata.to_openai_tool() for tool in tools]
        return {"messages": [*(chat_history or []), *asked], "tools": specs, **kwargs}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tool calls of a scripted message's ToolCallBlocks."""
        blocks = [block for block in response.message.blocks if block.block_type == "tool_call"]
        if not blocks and error_on_no_tool_call:
            raise ValueError(f"Expected at least one tool call, but got {len(blocks)} tool calls.")
        return [
            ToolSelection(
                tool_id=block.tool_call_id or "",
                tool_name=block.tool_name,
                tool_kwargs=_arguments(block.tool_kwargs),
            )
            for block in blocks
        ]


class LatencyLLM(ScriptedLLM):
    """A ScriptedLLM that takes its time; `peak_in_flight` says how concurrent its calls were.

    Args:
        latency: Seconds before each answer.
        script: As for ScriptedLLM.
        **settings: As for ScriptedLLM.
    """

    def __init__(self, latency: float = 0.2, script: Script = "an answer", **settings: Any) -> None:
        super().__init__(script, **{"model": "latency", **settings, "latency": latency})


def in_pieces(response: ChatResponse) -> list[ChatResponse]:
    """A response word by word, each piece holding the text so far; tool calls come with the last."""
    words = re.findall(r"\S+\s*|\s+", response.message.content or "")
    if not words:
        return [response.model_copy(update={"delta": ""})]
    pieces, text = [], ""
    for word in words[:-1]:
        text += word
        message = ChatMessage(role=response.message.role, content=text)
        pieces.append(ChatResponse(message=message, delta=word))
    return [*pieces, response.model_copy(update={"delta": words[-1]})]


def _arguments(given: dict[str, Any] | str) -> dict[str, Any]:
    """A tool call's arguments; real models' classes record them as JSON text."""
    return dict(json.loads(given) if isinstance(given, str) else given)


def _as_messages(prompt: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=prompt)]


def _completion(response: ChatResponse) -> CompletionResponse:
    return CompletionResponse(text=response.message.content or "", delta=response.delta, raw=response.raw)


def _word_counts(messages: Sequence[ChatMessage], answer: ChatMessage) -> dict[str, int]:
    asked = sum(len((message.content or "").split()) for message in messages)
    return {"prompt_tokens": asked, "completion_tokens": len((answer.content or "").split())}
