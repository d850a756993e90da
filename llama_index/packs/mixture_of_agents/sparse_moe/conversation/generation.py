"""A request's text, handed from the engine's thread to whoever reads it.

`generate` for threads and `agenerate` for event loops yield the same updates. Leaving either early,
by `close()`, an exception or a cancelled task, cancels the request in the engine. This file knows
text and threads, but neither torch nor LlamaIndex.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.errors import RequestCancelledError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.conversation.text import StopScanner, TextAssembler
from llama_index.packs.mixture_of_agents.sparse_moe.requests import Ending, GenerationRequest

if TYPE_CHECKING:
    from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine


@dataclass(frozen=True)
class TextRequest:
    """A prompt in token ids and how to read the answer.

    Args:
        generation: What the engine is asked.
        decode: Token ids to text, special tokens skipped.
        stops: Texts that end the answer and are not part of it.
        on_ending: Hears of the ending, even if nobody reads the answer any more.
    """

    generation: GenerationRequest
    decode: Callable[[Sequence[int]], str]
    stops: tuple[str, ...] = ()
    on_ending: Callable[[Ending], None] | None = None


@dataclass(frozen=True)
class Update:
    """A piece of the answer.

    Args:
        delta: New text; empty at the ending when nothing was held back.
        completion_tokens: Tokens generated up to here.
        ending: Set on the last update only.
    """

    delta: str
    completion_tokens: int
    ending: Ending | None = None


class _TextListener:
    """Runs on the engine's thread, so that a stop string ends the request before the next step."""

    def __init__(self, request: TextRequest, emit: Callable[[Update], None]) -> None:
        self._assembler = TextAssembler(request.decode)
        self._scanner = StopScanner(request.stops)
        self._emit = emit
        self._on_ending = request.on_ending
        self._tokens = 0

    def on_token(self, token_id: int) -> bool:
        self._tokens += 1
        delta = self._scanner.push(self._assembler.push(token_id))
        if delta:
            self._emit(Update(delta, self._tokens))
        return not self._scanner.stopped

    def on_end(self, ending: Ending) -> None:
        rest = ""
        try:
            if self._on_ending is not None:
                self._on_ending(ending)
            rest = self._scanner.push(self._assembler.flush()) + self._scanner.flush()
        except Exception as problem:
            # Told in any case: who reads this answer would wait for ever.
            error = SparseMoEError(f"the answer could not be made text: {problem!r}", causes=[problem])
            ending = replace(ending, reason=None, error=ending.error or error)
        self._emit(Update(rest, ending.completion_tokens, ending))


def _checked(update: Update) -> Update:
    if update.ending and update.ending.error:
        raise update.ending.error
    if update.ending and update.ending.reason == "cancelled":
        raise RequestCancelledError("the request was cancelled while it was waiting or decoding; ask again")
    return update


def generate(engine: Engine, request: TextRequest) -> Generator[Update, None, None]:
    """Generate text, waiting in this thread. The request is submitted at the first `next()`.

    Yields:
        Updates whose deltas join to the answer; the last one, and only that, has an ending.

    Raises:
        EngineClosedError: The engine was closed.
        QueueFullError: Too many requests are waiting.
        RequestCancelledError: Someone else cancelled the request.
        DeadlineExceededError: The request's timeout passed.
        SparseMoEError: The model failed.
    """
    inbox: queue.SimpleQueue[Update] = queue.SimpleQueue()
    handle = engine.submit(request.generation, _TextListener(request, inbox.put))
    try:
        while True:
            update = _checked(inbox.get())
            yield update
            if update.ending:
                return
    finally:
        handle.cancel()


async def agenerate(engine: Engine, request: TextRequest) -> AsyncGenerator[Update, None]:
    """Generate text without ever blocking the event loop; otherwise as `generate`."""
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[Update] = asyncio.Queue()

    def post(update: Update) -> None:
        try:
            loop.call_soon_threadsafe(inbox.put_nowait, update)
        except RuntimeError:
            if not loop.is_closed():
                raise
            # The reader's loop ended without saying goodbye: nobody is left to compute for.
            handle.cancel()

    handle = engine.submit(request.generation, _TextListener(request, post))
    try:
        while True:
            update = _checked(await inbox.get())
            yield update
            if update.ending:
                return
    finally:
        handle.cancel()


def collect(engine: Engine, request: TextRequest) -> Update:
    """Generate to the end, waiting in this thread; the update that comes back has the whole text."""
    with closing(generate(engine, request)) as updates:
        return _joined(list(updates))


async def acollect(engine: Engine, request: TextRequest) -> Update:
    """As `collect`, without blocking the event loop."""
    async with aclosing(agenerate(engine, request)) as updates:
        return _joined([update async for update in updates])


def _joined(updates: list[Update]) -> Update:
    return replace(updates[-1], delta="".join(update.delta for update in updates))


def usage_record(model: str, request: TextRequest, update: Update) -> dict[str, Any]:
    """Say what an answer used up to this update.

    Returns:
        "model", "usage" and "finish_reason" (None: goes on). At the ending also "complete", if the answer
        was to have a shape: whether it has it, or was cut before; and "sparse_moe", if the request was
        observed: how its tokens went to experts, under which settings, and what was shared.
    """
    prompt_tokens = len(request.generation.prompt_ids)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": update.completion_tokens,
        "total_tokens": prompt_tokens + update.completion_tokens,
    }
    record: dict[str, Any] = {
        "model": model,
        "usage": usage,
        "finish_reason": update.ending.reason if update.ending else None,
    }
    constraint = request.generation.constraint
    if update.ending is not None and constraint is not None:
        record["complete"] = constraint.complete
    if update.ending is not None and request.generation.observe:
        record["sparse_moe"] = _routing_record(request.generation, update.ending)
    return record


def _routing_record(request: GenerationRequest, ending: Ending) -> dict[str, Any]:
    counted = ending.routing.to_dict() if ending.routing is not None else {"layers": []}
    prefix = {"shared_tokens": ending.shared_tokens, "not_shared_because": ending.not_shared_because}
    return {**counted, "settings": asdict(request.routing), "prefix": prefix}
