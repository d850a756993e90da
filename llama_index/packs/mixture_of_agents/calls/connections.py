"""An LLM as each event loop calls it: with connections of the loop's own, and no retries of its own.

Knows how the provider classes keep their HTTP clients, by attribute and name, so that no provider's
library is imported. It makes no calls.
"""

from __future__ import annotations

import asyncio
import copy
import weakref
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, cast

from llama_index.core.llms.llm import LLM


class LoopViews:
    """One LLM, as every event loop that calls it should.

    Args:
        llm: The LLM; it is never changed.
    """

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._views: dict[asyncio.AbstractEventLoop, _View] = {}
        # Who lets go of a mixture closes its connections.
        weakref.finalize(self, self._views.clear).atexit = False

    async def here(self) -> LLM:
        """The LLM to call on this event loop.

        Where the class keeps connections it has the loop's own: a connection pool cannot serve two loops.
        """
        loop = asyncio.get_running_loop()
        if loop not in self._views:
            for ended in [known for known in list(self._views) if known.is_closed()]:
                self._views.pop(ended, None)
            llm = on_own_connections(without_own_retries(self._llm))
            view = self._views[loop] = _View(llm, _open_until_loop_ends(llm, self._llm))
            await anext(view.connections)
        return self._views[loop].llm


@dataclass(frozen=True)
class _View:
    """An LLM as one event loop calls it, and what closes its connections when the loop ends."""

    llm: LLM
    connections: AsyncGenerator[None, None]


async def _open_until_loop_ends(view: LLM, original: LLM) -> AsyncGenerator[None, None]:
    # An event loop has one moment to tell that it ends: it closes the async generators it has seen.
    try:
        yield
    finally:
        shared = (_http_client(original), getattr(original, "_async_http_client", None))
        client = _http_client(view)
        if client is not None and client not in shared:
            await client.aclose()


def without_own_retries(llm: LLM) -> LLM:
    """A copy whose client does not retry, so that the mixture alone counts attempts.

    OpenAI and Anthropic retry in the client, OpenAI and GoogleGenAI in a decorator; all read
    `max_retries`. MistralAI takes the number and never retries.
    """
    lineage = type(llm).__mro__
    names = {cls.__name__ for cls in lineage if cls.__module__.startswith("llama_index.llms.")}
    retrying = names & {"OpenAI", "OpenAIResponses", "Anthropic", "GoogleGenAI"}
    if not retrying or "max_retries" not in type(llm).model_fields:
        return llm
    view = llm.model_copy(update={"max_retries": 0})
    for attribute in ("_client", "_aclient"):
        client: Any = getattr(view, attribute, None)
        if hasattr(client, "with_options"):
            setattr(view, attribute, client.with_options(max_retries=0))
    return view


def on_own_connections(llm: LLM) -> LLM:
    """A copy with an async HTTP client that no other event loop uses, where the class holds one.

    A client that the caller configured and passed in is shared all the same, since nobody else can
    make another like it. Classes without connections are called as they are, not as a copy.
    """
    made = getattr(getattr(llm, "_aclient", None), "_client", None)
    if hasattr(getattr(llm, "_client", None), "sdk_configuration"):  # MistralAI
        view: Any = llm.model_copy()
        view._client = _mistral_twin(view._client)
        return cast(LLM, view)
    if made is not None and type(made).__name__ == "AsyncHttpxClientWrapper":
        # OpenAI and Anthropic call the clients so that they made themselves.
        view = llm.model_copy()
        fresh = type(made)(base_url=made.base_url, timeout=made.timeout)
        view._aclient = view._aclient.with_options(http_client=fresh)
        return cast(LLM, view)
    # Ollama's copy makes its client when it is called.
    return llm.model_copy() if hasattr(llm, "_async_client") else llm


def _mistral_twin(client: Any) -> Any:
    configuration = copy.copy(client.sdk_configuration)
    if configuration.async_client_supplied:
        return client
    configuration.async_client = type(configuration.async_client)(follow_redirects=True)
    twin = copy.copy(client)
    for name in [name for name, part in vars(client).items() if hasattr(part, "sdk_configuration")]:
        delattr(twin, name)  # made again on use, with the twin's configuration
    twin.sdk_configuration = configuration
    return twin


def _http_client(llm: LLM) -> Any:
    """The async HTTP client underneath, None where there is none or none yet."""
    for name in ("_aclient", "_async_client"):  # OpenAI and Anthropic; Ollama
        client = getattr(llm, name, None)
        if client is not None:
            return getattr(client, "_client", None)
    configuration = getattr(getattr(llm, "_client", None), "sdk_configuration", None)
    return getattr(configuration, "async_client", None)
