"""From what was asked to responses: whole or in pieces, waiting or awaited.

It knows neither what is asked nor what a response looks like: both are functions it is given. So no
LlamaIndex in here, and no torch.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from llama_index.packs.mixture_of_agents.sparse_moe.conversation import generation
from llama_index.packs.mixture_of_agents.sparse_moe.conversation.generation import TextRequest, usage_record

if TYPE_CHECKING:
    from llama_index.packs.mixture_of_agents.sparse_moe.local_model import LocalModel

Kwargs = dict[str, Any]
Response = TypeVar("Response")


@dataclass(frozen=True)
class Answering(Generic[Response]):
    """One way of asking a model.

    Args:
        local: The model.
        request: Makes a request of what is asked and the call's keyword arguments; refuses what cannot work.
        response: Makes a response of the text so far, the new piece (None for a whole answer) and what is to
            be said of it.
    """

    local: LocalModel
    request: Callable[[Any, Kwargs], TextRequest]
    response: Callable[[str, str | None, Kwargs], Response]

    def answer(self, asked: Any, kwargs: Kwargs) -> Response:
        """Answer, waiting in this thread."""
        request = self.request(asked, kwargs)
        whole = generation.collect(self.local.engine, request)
        return self.response(whole.delta, None, usage_record(self.local.name, request, whole))

    async def aanswer(self, asked: Any, kwargs: Kwargs) -> Response:
        """Answer, without blocking the event loop."""
        request = await self.local.off_loop(partial(self.request, asked, kwargs))
        whole = await generation.acollect(self.local.engine, request)
        return self.response(whole.delta, None, usage_record(self.local.name, request, whole))

    def open(self, asked: Any, kwargs: Kwargs) -> Generator[Response, None, None]:
        """Open a stream of pieces; what cannot be asked is refused here, before the first `next()`."""
        return self._pieces(self.request(asked, kwargs))

    async def aopen(self, asked: Any, kwargs: Kwargs) -> AsyncGenerator[Response, None]:
        """Open a stream of pieces for an event loop."""
        return self._apieces(await self.local.off_loop(partial(self.request, asked, kwargs)))

    def _pieces(self, request: TextRequest) -> Generator[Response, None, None]:
        text = ""
        with closing(generation.generate(self.local.engine, request)) as updates:
            for update in updates:
                text += update.delta
                yield self.response(text, update.delta, usage_record(self.local.name, request, update))

    async def _apieces(self, request: TextRequest) -> AsyncGenerator[Response, None]:
        text = ""
        async with aclosing(generation.agenerate(self.local.engine, request)) as updates:
            async for update in updates:
                text += update.delta
                yield self.response(text, update.delta, usage_record(self.local.name, request, update))
