"""Bounds on tools: whatever a tool does, its caller gets an answer in time, of bounded size, in words."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ToolCallBlock
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.tools import BaseTool, FunctionTool, QueryEngineTool, ToolMetadata, ToolOutput
from llama_index.core.workflow import Context

from llama_index.packs.mixture_of_agents.agents.tools.bounding import all_bounded, bounded
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ToolError
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


def shout(text: str) -> str:
    """Shout a text."""
    return text.upper()


async def whisper(text: str) -> str:
    """Whisper a text."""
    return text.lower()


@pytest.mark.parametrize("function", [shout, whisper])
async def test_a_tool_within_its_bounds_answers_as_it_is(function: Any) -> None:
    tool = bounded(function)
    plain = FunctionTool.from_defaults(function)
    assert tool.metadata.name == function.__name__
    assert tool.metadata.get_parameters_dict() == plain.metadata.get_parameters_dict()
    assert (await tool.acall(text="Ab")).content == (await plain.acall(text="Ab")).content
    assert tool.call(text="Ab").is_error is False


class Panic(BaseException):
    """What libraries written in Rust raise when they fail inside."""


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("no such thing"),
        SystemExit(3),
        StopIteration(),
        TimeoutError(),
        asyncio.CancelledError(),
        GeneratorExit(),
        Panic("inside"),
    ],
    ids=repr,
)
async def test_a_tool_that_raises_is_said_to_the_model(kind: str, error: BaseException) -> None:
    def fails() -> str:
        raise error

    async def fails_later() -> str:
        raise error

    output = await bounded(fails if kind == "plain" else fails_later, seconds=5).acall()
    assert output.is_error
    assert output.content
    assert "within" not in output.content, "an error is no deadline"
    assert isinstance(output.exception, Exception)


async def test_a_blocking_tool_that_hangs_is_left_behind() -> None:
    release = threading.Event()

    def hangs() -> str:
        release.wait(30)
        return "late"

    try:
        output = await bounded(hangs, seconds=0.05).acall()
    finally:
        release.set()
    assert output.is_error
    assert "hangs gave no answer within 0.05 seconds" in output.content
    assert isinstance(output.exception, TimeoutError)


async def test_an_async_tool_that_hangs_is_cancelled() -> None:
    ended = asyncio.Event()

    async def hangs() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return "late"

    output = await bounded(hangs, seconds=0.05).acall()
    assert output.is_error
    assert ended.is_set()


def test_a_tool_that_hangs_does_so_for_a_blocking_caller_too() -> None:
    release = threading.Event()
    began = time.monotonic()
    try:
        assert bounded(lambda: str(release.wait(30)), seconds=0.05).call().is_error
    finally:
        release.set()
    assert time.monotonic() - began < 20


async def test_a_megabyte_is_cut_and_the_cut_is_said() -> None:
    output = await bounded(lambda: "x" * 1_000_000, most_characters=100).acall()
    assert not output.is_error
    assert len(output.content) < 250
    assert "the first 100 of 1000000 characters" in output.content
    assert len(str(output.raw_output)) < 250, "what was cut does not travel either"


async def test_a_long_error_is_cut_too() -> None:
    def fails() -> str:
        raise ValueError("y" * 1_000_000)

    assert len((await bounded(fails, most_characters=100).acall()).content) < 250


async def test_a_picture_stays_unless_it_is_huge() -> None:
    def pictures(size: int) -> list[Any]:
        return [TextBlock(text="look"), ImageBlock(image=b"0" * size, image_mimetype="image/png")]

    small = await bounded(pictures).acall(size=10)
    huge = await bounded(pictures).acall(size=6_000_000)
    assert [block.block_type for block in small.blocks] == ["text", "image"]
    assert [block.block_type for block in huge.blocks] == ["text"]
    assert "1 attachments left out" in huge.content


@settings(max_examples=30)
@given(text=st.text(max_size=60), most=st.integers(min_value=1, max_value=50))
def test_no_answer_is_longer_than_its_bound_and_its_note(text: str, most: int) -> None:
    content = asyncio.run(bounded(lambda: text, most_characters=most).acall()).content
    assert content == text if len(text) <= most else content.startswith(f"{text[:most]}\n(cut here")


async def test_wrong_arguments_are_an_error_in_words() -> None:
    output = await bounded(shout).acall(loudness=11)
    assert output.is_error
    assert "loudness" in output.content


async def test_a_query_engine_tool_is_bounded_as_it_is() -> None:
    class Answers(CustomQueryEngine):
        def custom_query(self, query_str: str) -> str:
            return f"about {query_str}"

    tool = bounded(QueryEngineTool.from_defaults(Answers(), name="library", description="Knows books."))
    assert tool.metadata.name == "library"
    assert (await tool.acall(input="whales")).content == "about whales"


async def test_a_tool_that_is_only_blocking_is_bounded_too() -> None:
    class Plain(BaseTool):
        @property
        def metadata(self) -> ToolMetadata:
            return ToolMetadata(description="Plain.", name="plain")

        def __call__(self, input: Any) -> ToolOutput:
            return ToolOutput(tool_name="plain", content=threading.current_thread().name, raw_input={})

    assert (await bounded(Plain()).acall(input="x")).content == "moa-call", "in a thread of its own"


async def test_the_callers_cancellation_is_not_an_answer() -> None:
    task = asyncio.ensure_future(bounded(lambda: time.sleep(0.3), seconds=30).acall())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_what_is_no_tool_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a LlamaIndex tool or a function"):
        bounded("shout")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="seconds"):
        bounded(shout, seconds=0)
    with pytest.raises(ConfigurationError, match="most_characters"):
        bounded(shout, most_characters=0)


def test_a_tool_bounded_twice_has_the_later_bounds() -> None:
    tool = bounded(bounded(shout, seconds=1), seconds=2)
    assert tool.seconds == 2
    assert isinstance(tool.tool, FunctionTool)
    assert tool.call(text="a").content == "A"


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="shout"):
        all_bounded([shout, shout])


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")  # the agents' own
async def test_an_agents_context_reaches_the_tool_inside() -> None:
    async def note(ctx: Context, text: str) -> str:
        await ctx.store.set("noted", text)
        return "noted"

    note.__annotations__["ctx"] = Context  # LlamaIndex does not read annotations that are texts
    tool = bounded(note)
    assert tool.requires_context
    call = ToolCallBlock(tool_call_id="1", tool_name="note", tool_kwargs={"text": "hello"})
    model = ScriptedLLM(
        [ChatMessage(role="assistant", blocks=[call]), "done"], is_function_calling_model=True
    )
    agent = FunctionAgent(tools=[tool], llm=model, streaming=False)
    context = Context(agent)
    await agent.run("note hello", ctx=context)
    assert await context.store.get("noted") == "hello"


async def test_a_refusal_names_its_kind() -> None:
    def refuses() -> str:
        raise ToolError("only SELECT")

    assert (await bounded(refuses).acall()).content == "ToolError: only SELECT"
