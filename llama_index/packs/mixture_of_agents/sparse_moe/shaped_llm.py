"""LlamaIndex's structured output for an LLM that can hold its text to a JSON schema while it writes.

Nothing is asked twice and nothing is parsed in hope: the schema of the wanted class travels with the call as
`json_schema`, and the LLM underneath allows no token that would break it. How, is not known here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import LLM
from llama_index.core.program.utils import FlexibleModel
from llama_index.core.prompts import PromptTemplate

from llama_index.packs.mixture_of_agents.errors import FragmentError, MixtureError
from llama_index.packs.mixture_of_agents.sparse_moe.options import closed_schema

Kwargs = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


class ShapedLLM(LLM):
    """An LLM whose calls take `json_schema`.

    Attributes:
        takes_json_schema: So that who knows no class of this package can tell.
    """

    takes_json_schema: ClassVar[bool] = True

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: Kwargs | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Answer as an object: no token is allowed that would break the JSON schema of its class."""
        shaped = _shaped(output_cls, llm_kwargs)
        with _readable(output_cls):
            made: Model = super().structured_predict(output_cls, prompt, shaped, **prompt_args)
        return made

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: Kwargs | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Answer as an object, without blocking the event loop; otherwise as `structured_predict`."""
        shaped = _shaped(output_cls, llm_kwargs)
        with _readable(output_cls):
            made: Model = await super().astructured_predict(output_cls, prompt, shaped, **prompt_args)
        return made

    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: Kwargs | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Answer as an object, part by part; otherwise as `structured_predict`."""
        return super().stream_structured_predict(
            output_cls, prompt, _shaped(output_cls, llm_kwargs), **prompt_args
        )

    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: Kwargs | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """Answer as an object, part by part, without blocking the event loop."""
        return await super().astream_structured_predict(
            output_cls, prompt, _shaped(output_cls, llm_kwargs), **prompt_args
        )


def _shaped(output_cls: type[BaseModel], llm_kwargs: Kwargs | None) -> Kwargs:
    return {"json_schema": closed_schema(output_cls.model_json_schema()), **(llm_kwargs or {})}


@contextmanager
def _readable(output_cls: type[BaseModel]) -> Iterator[None]:
    """Say why an answer that cannot break its schema is no object: it was cut before its end."""
    try:
        yield
    except MixtureError:
        raise
    except ValueError as problem:
        raise FragmentError(
            f"the answer is no whole {output_cls.__name__}: {problem}. It was cut before its end; give it "
            "more tokens (llm_kwargs={'max_tokens': ...}), or ask for a smaller object",
            causes=[problem],
        ) from problem
