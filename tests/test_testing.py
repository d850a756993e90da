"""Scripted models: they say what they are told to, remember what they were sent, and run out loudly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.tools import FunctionTool

from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.testing import (
    LatencyLLM,
    ScriptedLLM,
    ScriptExhaustedError,
    in_pieces,
)

ASKED = [ChatMessage(content="Why is it so?")]
Method = Callable[[ScriptedLLM], Awaitable[list[str]]]


async def chat(llm: ScriptedLLM) -> list[str]:
    return [llm.chat(ASKED, top_p=1).message.content or ""]


async def achat(llm: ScriptedLLM) -> list[str]:
    return [(await llm.achat(ASKED, top_p=1)).message.content or ""]


async def stream_chat(llm: ScriptedLLM) -> list[str]:
    return [piece.delta or "" for piece in llm.stream_chat(ASKED, top_p=1)]


async def astream_chat(llm: ScriptedLLM) -> list[str]:
    return [piece.delta or "" async for piece in await llm.astream_chat(ASKED, top_p=1)]


async def complete(llm: ScriptedLLM) -> list[str]:
    return [llm.complete("Why is it so?", top_p=1).text]


async def acomplete(llm: ScriptedLLM) -> list[str]:
    return [(await llm.acomplete("Why is it so?", top_p=1)).text]


async def stream_complete(llm: ScriptedLLM) -> list[str]:
    return [piece.delta or "" for piece in llm.stream_complete("Why is it so?", top_p=1)]


async def astream_complete(llm: ScriptedLLM) -> list[str]:
    return [piece.delta or "" async for piece in await llm.astream_complete("Why is it so?", top_p=1)]


METHODS = [chat, achat, stream_chat, astream_chat, complete, acomplete, stream_complete, astream_complete]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)


@every_method
async def test_each_method_gives_the_script_and_records_what_it_was_sent(method: Method) -> None:
    llm = ScriptedLLM(["two words", "last"], model="a")
    pieces = await method(llm)
    assert "".join(pieces) == "two words"
    assert len(pieces) == (2 if "stream" in method.__name__ else 1)
    (call,) = llm.calls
    assert (call.method, call.text, call.options) == (method.__name__, "Why is it so?", {"top_p": 1})


@every_method
async def test_each_method_raises_what_the_script_says(method: Method) -> None:
    with pytest.raises(ConnectionError, match="down"):
        await method(ScriptedLLM([ConnectionError("down")]))


@every_method
async def test_running_out_of_answers_is_an_error_that_says_so(method: Method) -> None:
    llm = ScriptedLLM(["only one"], model="a")
    await method(llm)
    with pytest.raises(ScriptExhaustedError, match=r"a was called 2 times, but its script has 1 answers"):
        await method(llm)
    assert issubclass(ScriptExhaustedError, MixtureError)


def test_one_text_answers_every_call() -> None:
    llm = ScriptedLLM("same")
    assert {llm.complete("q").text for _ in range(3)} == {"same"}


def test_a_function_sees_the_messages_and_may_say_text_message_or_error() -> None:
    def answer(messages: Any) -> str | ChatMessage | BaseException:
        said = messages[-1].content
        if said == "fail":
            return ValueError("told to")
        return ChatMessage(role="assistant", content="hello") if said == "hi" else said.upper()

    llm = ScriptedLLM(answer)
    assert llm.complete("quiet").text == "QUIET"
    assert llm.complete("hi").text == "hello"
    with pytest.raises(ValueError, match="told to"):
        llm.complete("fail")
    assert len(llm.calls) == 3


def test_copies_share_one_script_and_one_record() -> None:
    llm = ScriptedLLM(["one", "two"])
    copy = llm.model_copy(update={"model": "copy"})
    assert [copy.complete("q").text, llm.complete("q").text] == ["one", "two"]
    assert len(llm.calls) == len(copy.calls) == 2


def test_answers_are_given_once_each_from_many_threads() -> None:
    llm = ScriptedLLM([str(n) for n in range(200)])
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda _: llm.complete("q").text, range(200)))
    assert sorted(said, key=int) == [str(n) for n in range(200)]


def test_metadata_is_what_was_asked_for() -> None:
    llm = ScriptedLLM("x", model="m", context_window=99, num_output=7, is_function_calling_model=True)
    known = llm.metadata
    assert (known.model_name, known.context_window, known.num_output) == ("m", 99, 7)
    assert known.is_function_calling_model
    assert not ScriptedLLM("x").metadata.is_function_calling_model


def test_words_are_counted_as_tokens() -> None:
    assert ScriptedLLM("a b").chat(ASKED).raw == {"usage": {"prompt_tokens": 4, "completion_tokens": 2}}


@given(text=st.text(max_size=60))
def test_pieces_add_up_to_the_whole(text: str) -> None:
    response = ChatResponse(message=ChatMessage(role="assistant", content=text), raw={"usage": {}})
    pieces = in_pieces(response)
    assert "".join(piece.delta or "" for piece in pieces) == text
    assert pieces[-1].message.content == text
    assert pieces[-1].raw == response.raw
    so_far = ""
    for piece in pieces:
        so_far += piece.delta or ""
        assert piece.message.content == so_far


def test_scripted_tool_calls_are_read_back() -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    block = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 1, "b": 2})
    llm = ScriptedLLM(
        [ChatMessage(role="assistant", blocks=[block]), "no call"], is_function_calling_model=True
    )
    tool = FunctionTool.from_defaults(add)

    response = llm.chat_with_tools([tool], user_msg="What is 1 + 2?")
    (selection,) = llm.get_tool_calls_from_response(response)
    assert (selection.tool_id, selection.tool_name, selection.tool_kwargs) == ("1", "add", {"a": 1, "b": 2})
    assert llm.calls[0].options["tools"][0]["function"]["name"] == "add"

    plain = llm.chat_with_tools([tool], user_msg="Hello")
    assert llm.get_tool_calls_from_response(plain, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="tool call"):
        llm.get_tool_calls_from_response(plain)


def test_tool_calls_recorded_with_their_arguments_as_text_are_read_back() -> None:
    block = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs='{"a": 1, "b": 2}')
    llm = ScriptedLLM([ChatMessage(role="assistant", blocks=[block])], is_function_calling_model=True)
    (selection,) = llm.get_tool_calls_from_response(llm.chat(ASKED))
    assert selection.tool_kwargs == {"a": 1, "b": 2}


async def test_a_latency_is_waited_without_blocking_the_loop() -> None:
    llm, started = LatencyLLM(0.1), time.monotonic()
    answers = await asyncio.gather(*(llm.acomplete("q") for _ in range(8)))
    assert {answer.text for answer in answers} == {"an answer"}
    assert 0.1 <= time.monotonic() - started < 0.5
    assert llm.peak_in_flight == 8


async def test_the_peak_is_of_calls_under_way_at_one_time() -> None:
    llm = LatencyLLM(0.001)
    for _ in range(5):
        await llm.acomplete("q")
    assert llm.peak_in_flight == 1


async def test_a_cancelled_call_is_no_longer_under_way_and_takes_no_answer() -> None:
    llm = LatencyLLM(5, ["only"])
    call = asyncio.ensure_future(llm.acomplete("q"))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (len(llm.calls), llm.answered) == (1, 0)
    assert llm.model_copy(update={"latency": 0.0}).complete("q").text == "only"
    assert llm.peak_in_flight == 1
