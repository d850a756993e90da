"""Structured answers: by a function call where the aggregator makes them, else from its JSON."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import BasePydanticProgram
from pydantic import BaseModel

from llama_index.packs.mixture_of_agents import MixtureOfAgentsLLM, MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


class Song(BaseModel):
    """A song."""

    title: str
    seconds: int


PROMPT = PromptTemplate("Name a song about {subject}.")
SONG = Song(title="Blue Skies", seconds=180)


def mixture(calls_functions: bool) -> tuple[MixtureOfAgentsLLM, list[ScriptedLLM]]:
    block = ToolCallBlock(tool_call_id="1", tool_name="Song", tool_kwargs=SONG.model_dump())
    # Real classes give both forms, and LlamaIndex's streamed structured answers look for the older one.
    older = {"tool_calls": [{"id": "1", "function": {"name": "Song", "arguments": SONG.model_dump_json()}}]}
    call = ChatMessage(role="assistant", blocks=[block], additional_kwargs=older)
    answer: Any = call if calls_functions else SONG.model_dump_json()
    members = [
        ScriptedLLM("Blue Skies?", model="a"),
        ScriptedLLM(lambda _: answer, model="g", is_function_calling_model=calls_functions),
    ]
    return MixtureOfAgentsPack(members[1], members[:1]).as_llm(), members


STREAMS_JSON = LLMTextCompletionProgram.stream_call is not BasePydanticProgram.stream_call
streamed_both_ways = pytest.mark.parametrize(
    "calls_functions",
    [
        pytest.param(True, id="function call"),
        pytest.param(
            False,
            id="json",
            marks=pytest.mark.skipif(not STREAMS_JSON, reason="this core streams no objects from plain text"),
        ),
    ],
)
both_ways = pytest.mark.parametrize("calls_functions", [True, False], ids=["function call", "json"])


@both_ways
def test_structured_predict_gives_the_object(calls_functions: bool) -> None:
    llm, members = mixture(calls_functions)
    assert llm.structured_predict(Song, PROMPT, subject="the sky") == SONG
    proposer, aggregator = members
    assert "Name a song about the sky." in proposer.calls[0].text
    assert "Blue Skies?" in aggregator.calls[0].text
    assert all("tools" not in call.options for call in proposer.calls)
    assert ("tools" in aggregator.calls[0].options) == calls_functions


@both_ways
async def test_astructured_predict_gives_the_object(calls_functions: bool) -> None:
    llm, _ = mixture(calls_functions)
    assert await llm.astructured_predict(Song, PROMPT, subject="the sky") == SONG


@streamed_both_ways
def test_stream_structured_predict_ends_with_the_object(calls_functions: bool) -> None:
    llm, _ = mixture(calls_functions)
    *_, last = llm.stream_structured_predict(Song, PROMPT, subject="the sky")
    assert isinstance(last, BaseModel)
    assert last.model_dump() == SONG.model_dump()


@streamed_both_ways
async def test_astream_structured_predict_ends_with_the_object(calls_functions: bool) -> None:
    llm, _ = mixture(calls_functions)
    pieces = [piece async for piece in await llm.astream_structured_predict(Song, PROMPT, subject="the sky")]
    assert isinstance(pieces[-1], BaseModel)
    assert pieces[-1].model_dump() == SONG.model_dump()


@both_ways
async def test_as_structured_llm_gives_the_object_by_every_method(calls_functions: bool) -> None:
    structured = mixture(calls_functions)[0].as_structured_llm(Song)
    asked = [ChatMessage(content="Name a song.")]
    assert structured.complete("Name a song.").raw == SONG
    assert (await structured.acomplete("Name a song.")).raw == SONG
    assert structured.chat(asked).raw == SONG
    assert (await structured.achat(asked)).raw == SONG
    assert Song.model_validate_json(structured.complete("Name a song.").text) == SONG
