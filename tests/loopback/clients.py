"""The LlamaIndex clients that speak to an OpenAI-compatible server, built the same way each.

Knows how each class is pointed at a server; not what is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from llama_index.core.llms.llm import LLM
from llama_index.llms.mistralai import MistralAI  # type: ignore[import-untyped]
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Client:
    """One class and model names it accepts: three proposers', then the aggregator's.

    Attributes:
        name: How tests call it.
        models: OpenAI and MistralAI look a context window up by name, so the names are real ones.
        build: (server address, model, settings) -> the LLM.
    """

    name: str
    models: tuple[str, str, str, str]
    build: Callable[..., LLM]

    def llms(self, url: str, **settings: Any) -> list[LLM]:
        """Three proposers and an aggregator on that server."""
        return [self.build(url, model, **settings) for model in self.models]

    def __str__(self) -> str:
        return self.name


def _openai(url: str, model: str, **settings: Any) -> LLM:
    return OpenAI(model=model, api_base=f"{url}/v1", api_key="test", **settings)


def _openai_like(url: str, model: str, **settings: Any) -> LLM:
    like = OpenAILike(model=model, api_base=f"{url}/v1", api_key="test", is_chat_model=True, **settings)
    return cast(LLM, like)


def _mistralai(url: str, model: str, **settings: Any) -> LLM:
    return cast(LLM, MistralAI(model=model, endpoint=url, api_key="test", **settings))


OPENAI = Client("OpenAI", ("gpt-4o-mini", "gpt-4o", "gpt-4.1-mini", "gpt-4.1"), _openai)
OPENAI_LIKE = Client("OpenAILike", ("a", "b", "c", "final"), _openai_like)
MISTRALAI = Client(
    "MistralAI",
    ("mistral-small-latest", "mistral-medium-latest", "open-mistral-nemo", "mistral-large-latest"),
    _mistralai,
)
CLIENTS = (OPENAI, OPENAI_LIKE, MISTRALAI)


async def close(llm: LLM) -> None:
    """Close the connections that the LLM itself has opened on the running loop."""
    client: Any = getattr(llm, "_aclient", None)
    if client is not None:
        await client.close()
    else:
        client = llm._client  # type: ignore[attr-defined]
        await client.sdk_configuration.async_client.aclose()
