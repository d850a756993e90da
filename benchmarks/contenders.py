"""Four ways to run the same calls: this package, its bare minimum, no workflow, another package.

Each answers one question with 6 proposers in 3 rounds and a synthesis, 19 calls of one simulated LLM
whose async method is wrapped in LlamaIndex's callbacks as every integration's is. They know nothing of
what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import mixture_llm
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack

PROPOSERS, ROUNDS = 6, 3
CALLS = PROPOSERS * ROUNDS + 1
CRITICAL_PATH = ROUNDS + 1
"""Calls that can only follow one another."""

QUESTION = "Why is the sky blue?"
Ask = Callable[[], Awaitable[Any]]


class SimulatedLLM(CustomLLM):
    """An LLM that takes its time and says the same short thing.

    Args:
        seconds: How long each call takes.
    """

    seconds: float = 0.0

    @property
    def metadata(self) -> LLMMetadata:
        """Names it."""
        return LLMMetadata(model_name="simulated", context_window=128_000)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Wait, and answer."""
        await asyncio.sleep(self.seconds)
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        return ChatResponse(
            message=ChatMessage(role="assistant", content="Because of Rayleigh scattering."),
            raw={"usage": usage},
        )

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Not used; the class asks for it."""
        return CompletionResponse(text="Because of Rayleigh scattering.")

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Not used; the class asks for it."""
        yield self.complete(prompt)


def this_pack(llm: SimulatedLLM) -> Ask:
    """`MixtureOfAgentsPack.arun`, everything on: prompts, retries, deadline, policies, results."""
    pack = MixtureOfAgentsPack(llm, [llm] * PROPOSERS, num_layers=ROUNDS + 1)
    return lambda: pack.arun(QUESTION)


class _Ask(Event):
    layer: int
    index: int


class _Told(Event):
    layer: int
    index: int
    text: str


def bare_workflow(llm: SimulatedLLM) -> Ask:
    """The same events on the same workflow runtime, and nothing else: the floor for any workflow."""
    messages = [ChatMessage(content=QUESTION)]

    class Bare(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[_Ask]:
            return [_Ask(layer=1, index=index) for index in range(PROPOSERS)]

        @step(num_workers=PROPOSERS)
        async def propose(self, ev: _Ask) -> _Told:
            response = await llm.achat(messages)
            return _Told(layer=ev.layer, index=ev.index, text=response.message.content or "")

        @step
        async def aggregate(self, told: list[_Told]) -> list[_Ask] | StopEvent:
            layer = told[0].layer + 1
            if layer <= ROUNDS:
                return [_Ask(layer=layer, index=index) for index in range(PROPOSERS)]
            return StopEvent(result=await llm.achat(messages))

    flow = Bare(timeout=None)
    return flow.run


def plain_gather(llm: SimulatedLLM) -> Ask:
    """The same calls under asyncio.gather: no events, no errors handled, no record."""
    messages = [ChatMessage(content=QUESTION)]

    async def ask() -> ChatResponse:
        for _ in range(ROUNDS):
            await asyncio.gather(*(llm.achat(messages) for _ in range(PROPOSERS)))
        answer: ChatResponse = await llm.achat(messages)
        return answer

    return ask


def mixture_llm_package(llm: SimulatedLLM) -> Ask:
    """The package `mixture-llm`, its client calling the same LLM."""

    async def client(
        *, model: str, messages: list[mixture_llm.core.Message], temp: float, max_tokens: int
    ) -> tuple[str, int, int]:
        asked = [ChatMessage(role=message["role"], content=message["content"]) for message in messages]
        response = await llm.achat(asked)
        return response.message.content or "", 10, 5

    names = [f"model-{index}" for index in range(PROPOSERS)]
    rounds = [mixture_llm.Propose(names), *[mixture_llm.Synthesize(names)] * (ROUNDS - 1)]
    pipeline = [*rounds, mixture_llm.Aggregate("aggregator")]
    return lambda: mixture_llm.run(pipeline, QUESTION, client)


CONTENDERS: dict[str, Callable[[SimulatedLLM], Ask]] = {
    "this pack": this_pack,
    "bare workflow": bare_workflow,
    "asyncio.gather": plain_gather,
    "mixture-llm": mixture_llm_package,
}
