"""The mixture as a LlamaIndex LLM: usable wherever one is, in `Settings`, query engines and agents.

Proposers draft without tools; the aggregator alone is offered them and alone emits tool calls. It
knows the workflow's doors and nothing of what happens behind them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
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
from llama_index.core.llms.llm import LLM, ToolSelection
from pydantic import PrivateAttr
from workflows.handler import WorkflowHandler

from llama_index.packs.mixture_of_agents.calls.sampling import refused_keywords, split_options
from llama_index.packs.mixture_of_agents.calls.threads import iterate_blocking, run_blocking
from llama_index.packs.mixture_of_agents.errors import BrokenStreamError, ConfigurationError
from llama_index.packs.mixture_of_agents.events import DeltaEvent, ProgressEvent
from llama_index.packs.mixture_of_agents.proposers import check_sampling
from llama_index.packs.mixture_of_agents.results import MixtureResponse
from llama_index.packs.mixture_of_agents.runs.mixture import Mixture
from llama_index.packs.mixture_of_agents.seats.seat import Seat
from llama_index.packs.mixture_of_agents.workflow import MixtureOfAgentsWorkflow

StreamItem = ProgressEvent | DeltaEvent | MixtureResponse


async def answer_of(handler: WorkflowHandler) -> MixtureResponse:
    """Await a run; a cancelled caller cancels it, and every call in flight with it."""
    ended = asyncio.ensure_future(handler)
    try:
        # Not the handler itself: that would cancel the runtime's loop, which then forgets its tasks.
        await asyncio.wait({ended})
    except asyncio.CancelledError:
        await handler.cancel_run()
        await asyncio.gather(ended, return_exceptions=True)
        raise
    response: MixtureResponse = ended.result()
    return response


async def stream_of(handler: WorkflowHandler) -> AsyncGenerator[StreamItem, None]:
    """A run's progress and deltas, at last its response; leaving early cancels the run."""
    try:
        async for event in handler.stream_events():
            if isinstance(event, (ProgressEvent, DeltaEvent)):
                yield event
        yield await handler
    finally:
        if not handler.is_done():
            await handler.cancel_run()


class MixtureOfAgentsLLM(FunctionCallingLLM):
    """A whole mixture behind LlamaIndex's LLM interface.

    A call's keyword arguments go to the aggregator alone: `temperature`, `max_tokens` and `seed` in the
    form its class takes, others as they are, unless it takes none: then they are refused at once.

    A stream whose synthesis breaks off after its first piece raises BrokenStreamError. The pack's own
    `astream` goes on with another model's answer; who joins an LLM's pieces (query engines do) could not
    tell the two apart.

    Args:
        workflow: The mixture; `MixtureOfAgentsPack.as_llm()` passes its own.

    Example:
        Settings.llm = MixtureOfAgentsPack(llm=aggregator, reference_llms=[a, b]).as_llm()
    """

    _workflow: MixtureOfAgentsWorkflow = PrivateAttr()

    def __init__(self, workflow: MixtureOfAgentsWorkflow, **settings: Any) -> None:
        super().__init__(**settings)
        self._workflow = workflow

    @classmethod
    def class_name(cls) -> str:
        """Name the class for serialisation."""
        return "MixtureOfAgentsLLM"

    @property
    def workflow(self) -> MixtureOfAgentsWorkflow:
        """The mixture behind it."""
        return self._workflow

    @property
    def metadata(self) -> LLMMetadata:
        """What a caller may count on: a window every member has, the aggregator's abilities."""
        mixture = self._workflow.mixture
        aggregator = mixture.aggregator.metadata
        return LLMMetadata(
            model_name=f"mixture-of-agents({mixture.aggregator.name})",
            context_window=context_window(mixture),
            num_output=mixture.aggregator.sampling.max_tokens or aggregator.num_output,
            is_chat_model=True,
            # Where the answer is chosen and not written, nobody is there to call tools.
            is_function_calling_model=mixture.finish.writes and aggregator.is_function_calling_model,
            system_role=MessageRole.SYSTEM,
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask the mixture with a conversation; the whole answer at once."""
        return run_blocking(self._answer(messages, kwargs))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask the mixture with a conversation; cancelling the await cancels its calls."""
        return await self._answer(messages, kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """The answer as the synthesis is produced; closing the generator cancels the run."""

        def pieces() -> ChatResponseGen:
            yield from iterate_blocking(self._stream(messages, kwargs))

        return pieces()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The answer as the synthesis is produced; closing the generator cancels the run."""
        return self._stream(messages, kwargs)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Ask the mixture with one prompt."""
        return _completion(run_blocking(self._answer(self._asked(prompt), kwargs)))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Ask the mixture with one prompt; cancelling the await cancels its calls."""
        return _completion(await self._answer(self._asked(prompt), kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """The answer to one prompt as the synthesis is produced."""

        def pieces() -> CompletionResponseGen:
            yield from map(_completion, iterate_blocking(self._stream(self._asked(prompt), kwargs)))

        return pieces()

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """The answer to one prompt as the synthesis is produced."""

        async def pieces() -> CompletionResponseAsyncGen:
            async for piece in self._stream(self._asked(prompt), kwargs):
                yield _completion(piece)

        return pieces()

    def _asked(self, prompt: str) -> list[ChatMessage]:
        return [ChatMessage(role=MessageRole.USER, content=prompt)]

    async def _answer(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> ChatResponse:
        check_options(self._workflow.mixture, options)
        handler = self._workflow.run(messages=messages, streams=False, aggregator_options=options)
        return _chat_response(await answer_of(handler))

    async def _stream(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> ChatResponseAsyncGen:
        check_options(self._workflow.mixture, options)
        text = ""
        handler = self._workflow.run(messages=messages, aggregator_options=options)
        events = stream_of(handler)
        try:
            async for event in events:
                if isinstance(event, DeltaEvent):
                    text += event.delta
                    message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
                    yield ChatResponse(message=message, delta=event.delta)
                elif isinstance(event, MixtureResponse):
                    yield _chat_response(event)
                elif event.kind == "synthesis" and text:
                    raise BrokenStreamError(
                        f"The stream broke off after {text[-40:]!r}, and pieces that are out cannot be taken "
                        f"back for the answer of {event.proposer}. Ask again, or use the pack's astream()."
                    )
        finally:
            await events.aclose()

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
        return self._function_caller()._prepare_chat_with_tools_compat(
            tools,
            user_msg=user_msg,
            chat_history=chat_history,
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            tool_required=tool_required,
            **kwargs,
        )

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[Any],
        allow_parallel_tool_calls: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        return self._function_caller()._validate_chat_with_tools_response(
            response, tools, allow_parallel_tool_calls=allow_parallel_tool_calls, **kwargs
        )

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The aggregator's tool calls, read the way its own class reads them."""
        return self._function_caller().get_tool_calls_from_response(
            response, error_on_no_tool_call=error_on_no_tool_call, **kwargs
        )

    def _function_caller(self) -> FunctionCallingLLM:
        aggregator = self._workflow.mixture.aggregator
        if isinstance(aggregator.proposer.model, FunctionCallingLLM):
            return aggregator.proposer.model
        raise ConfigurationError(
            f"The aggregator {aggregator.name} calls no functions; use one that does, or a ReActAgent."
        )


def check_options(mixture: Mixture, options: dict[str, Any]) -> None:
    """Refuse settings that no model takes, and keyword arguments that the aggregator's class does not."""
    sampling, others = split_options(options)
    check_sampling(sampling)
    aggregator = mixture.aggregator
    if options and not mixture.finish.writes:
        raise ConfigurationError(
            f"finish={mixture.finish.name!r} chooses an answer and has none written, so {', '.join(options)} "
            "would reach nobody; leave it out, or use finish='synthesize'."
        )
    model = aggregator.proposer.model
    refused = refused_keywords(model, others) if isinstance(model, LLM) else list(options)
    if refused:
        who = f"The aggregator {aggregator.name} ({type(model).__name__})"
        raise ConfigurationError(f"{who} takes no {', '.join(refused)} with a call; leave it out.")


def context_window(mixture: Mixture) -> int:
    """Tokens a caller's prompt and the answer may have together, so that every member can hold them.

    Kept free, where lengths are known: for a member that refines every draft of the round before, for
    those who may write the answer the longest draft of the last (more go through a sliding window). Half
    of the narrowest window is promised all the same: drafts are seldom as long as they may be.
    """
    before: Sequence[int] = ()
    rooms = []
    for layer in mixture.layers:
        rooms.append((_narrowest(layer), sum(before)))
        before = [_longest_answer(seat) for seat in layer]
    writers = [mixture.aggregator, *(mixture.layers[-1] if mixture.layers else ())]
    rooms.append((_narrowest(writers), max(before, default=0)))
    known = [(window, drafts) for window, drafts in rooms if window is not None]
    if not known:
        return LLMMetadata().context_window
    half = min(window for window, _ in known) // 2
    return max(half, min(window - drafts for window, drafts in known))


def _narrowest(seats: Sequence[Seat]) -> int | None:
    windows = [seat.metadata.context_window for seat in seats]
    return min((window for window in windows if window > 0), default=None)


def _longest_answer(seat: Seat) -> int:
    return seat.sampling.max_tokens or max(0, seat.metadata.num_output)


def _chat_response(response: MixtureResponse) -> ChatResponse:
    usage = response.usage.model_dump()
    return ChatResponse(message=response.message, delta="", raw={**response.to_dict(), "usage": usage})


def _completion(response: ChatResponse) -> CompletionResponse:
    return CompletionResponse(text=response.message.content or "", delta=response.delta, raw=response.raw)
