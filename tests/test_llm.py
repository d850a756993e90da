"""The mixture as an LLM: honest metadata, a conversation kept whole, tools for the aggregator alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    ToolCallBlock,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.tools import FunctionTool

from llama_index.packs.mixture_of_agents import (
    ConfigurationError,
    MixtureError,
    MixtureOfAgentsLLM,
    MixtureOfAgentsPack,
    Proposer,
)
from llama_index.packs.mixture_of_agents.errors import BrokenStreamError
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


def scripted(name: str = "a", script: Any = "a draft", **settings: Any) -> ScriptedLLM:
    return ScriptedLLM(script, model=name, **settings)


def as_llm(aggregator: Any = None, proposers: Any = None, **options: Any) -> MixtureOfAgentsLLM:
    chosen = aggregator or scripted("g", "the answer")
    return MixtureOfAgentsPack(chosen, proposers or [scripted()], **options).as_llm()


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOL = FunctionTool.from_defaults(add)
CALL = ChatMessage(
    role="assistant",
    blocks=[ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 1, "b": 2})],
)


def window_of(*args: Any, **options: Any) -> int:
    return as_llm(*args, **options).metadata.context_window


def test_its_window_is_that_of_the_narrowest_member_less_the_drafts_it_reads() -> None:
    members = [
        scripted(context_window=8000, num_output=500),
        scripted("b", context_window=32_000, num_output=700),
    ]
    # A round that refines holds all drafts of the round before, the synthesis as few as one.
    assert window_of(proposers=members) == 8000 - 500 - 700
    assert window_of(proposers=members, num_layers=2) == 8000 - 700
    assert window_of(scripted("g", context_window=4000)) == 4000
    assert window_of(scripted("g", context_window=4000), members) == 4000 - 700


def test_who_only_proposes_in_the_first_of_two_rounds_reads_no_drafts() -> None:
    first, second = scripted(context_window=4000, num_output=900), scripted("b", context_window=8000)
    assert window_of(proposers=[[first], [second]]) == 4000
    narrow = [[scripted(num_output=900)] * 3, [scripted("b", context_window=8000, num_output=100)]]
    assert window_of(proposers=narrow) == 8000 - 3 * 900


def test_drafts_as_long_as_the_window_leave_at_least_half_of_it() -> None:
    assert window_of(proposers=[scripted(context_window=1000, num_output=1000)]) == 500
    talkative = [scripted(num_output=5000)] * 2
    assert window_of(proposers=[talkative, [scripted("b", context_window=8000)]]) == 4000


def test_unknown_windows_are_passed_over() -> None:
    known = as_llm(proposers=[scripted(context_window=-1), scripted("b", context_window=9000)])
    assert known.metadata.context_window == 9000
    assert as_llm(scripted("g", context_window=-1), [scripted(context_window=0)]).metadata.context_window > 0


@pytest.mark.parametrize("calls_functions", [True, False])
def test_its_abilities_are_the_aggregators(calls_functions: bool) -> None:
    other = scripted(is_function_calling_model=not calls_functions)
    known = as_llm(scripted("g", is_function_calling_model=calls_functions, num_output=77), [other]).metadata
    assert known.is_function_calling_model == calls_functions
    assert known.is_chat_model
    assert known.num_output == 77
    assert "g" in known.model_name
    assert known.system_role == MessageRole.SYSTEM


def test_an_answers_length_set_on_the_mixture_wins_over_the_models() -> None:
    assert as_llm(scripted("g", num_output=77), max_tokens=50).metadata.num_output == 50
    assert as_llm(Proposer(scripted("g", num_output=77), max_tokens=9)).metadata.num_output == 9


def test_it_copies_and_dumps_without_its_mixture() -> None:
    llm = as_llm(scripted("g", ["one", "two"]))
    copy = llm.model_copy()
    assert copy.workflow is llm.workflow
    assert [llm.complete("q").text, copy.complete("q").text] == ["one", "two"]
    dumped = json.loads(json.dumps(llm.to_dict(), default=str))
    assert dumped["class_name"] == "MixtureOfAgentsLLM"
    assert "workflow" not in str(llm.model_dump())


def test_history_and_system_messages_reach_every_member() -> None:
    members = [scripted(), scripted("g", "the answer")]
    history = [
        ChatMessage(role="system", content="Answer in French."),
        ChatMessage(role="user", content="My name is Ada."),
        ChatMessage(role="assistant", content="Bonjour Ada."),
        ChatMessage(role="user", content="What is my name?"),
    ]
    as_llm(members[1], members[:1]).chat(history)
    for call in [call for member in members for call in member.calls]:
        assert (call.messages[0].content or "").startswith("Answer in French.")
        assert call.messages[1:] == history[1:]


def test_a_calls_options_go_to_the_aggregator_alone() -> None:
    proposer, aggregator = scripted(), scripted("g", "the answer")
    as_llm(aggregator, [proposer]).chat([ChatMessage(content="q")], top_p=0.5)
    assert aggregator.calls[0].options == {"top_p": 0.5}
    assert all(call.options == {} for call in proposer.calls)


class NoKeywords(CustomLLM):
    """A class as the documentation teaches it; its methods take no keywords."""

    temperature: float = 0.5

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="plain")

    def complete(self, prompt: str, formatted: bool = False) -> CompletionResponse:  # type: ignore[override]
        return CompletionResponse(text=f"at {self.temperature}")

    def stream_complete(  # type: ignore[override]
        self, prompt: str, formatted: bool = False
    ) -> CompletionResponseGen:
        yield CompletionResponse(text=f"at {self.temperature}", delta=f"at {self.temperature}")


def test_a_calls_settings_travel_in_the_aggregators_form() -> None:
    llm = as_llm(NoKeywords())
    response = llm.chat([ChatMessage(content="q")], temperature=0.1, max_tokens=None)
    assert response.message.content == "at 0.1"
    assert llm.complete("q", temperature=0.1).text == "at 0.1"
    assert [piece.delta for piece in llm.stream_complete("q", temperature=0.1)] == ["at 0.1", ""]
    assert llm.chat([ChatMessage(content="q")]).message.content == "at 0.5"


@pytest.mark.parametrize(
    ("options", "said"),
    [({"top_p": 0.5}, r"g \(NoKeywords\) takes no top_p"), ({"temperature": 3.0}, "between 0 and 2")],
)
def test_options_that_the_aggregator_cannot_take_are_refused_before_any_call(
    options: dict[str, Any], said: str
) -> None:
    proposer = scripted()
    llm = as_llm(Proposer(NoKeywords(), name="g"), [proposer])
    with pytest.raises(ConfigurationError, match=said):
        llm.chat([ChatMessage(content="q")], **options)
    with pytest.raises(ConfigurationError, match=said):
        list(llm.stream_complete("q", **options))
    assert not proposer.calls


def test_an_agent_that_writes_the_answer_takes_no_options() -> None:
    class Agent:
        name = "an agent"

        def run(self, **_: object) -> str:
            return "said"

    assert as_llm(Agent()).complete("q").text == "said"
    with pytest.raises(ConfigurationError, match=r"an agent .* takes no temperature"):
        as_llm(Agent()).complete("q", temperature=0.1)


def test_the_raw_response_tells_how_it_came_about() -> None:
    raw: Any = as_llm().chat([ChatMessage(content="q")]).raw
    assert raw["usage"]["completion_tokens"] == 2 + 2 + 2
    assert [proposal["text"] for proposal in raw["proposals"]] == ["a draft", "a draft"]
    assert raw["degraded"] is False
    json.dumps(raw)


def test_tools_are_offered_to_the_aggregator_alone() -> None:
    proposer, aggregator = scripted(), scripted("g", [CALL], is_function_calling_model=True)
    llm = as_llm(aggregator, [proposer])
    response = llm.chat_with_tools([TOOL], user_msg="What is 1 + 2?")
    (selection,) = llm.get_tool_calls_from_response(response)
    assert (selection.tool_name, selection.tool_kwargs) == ("add", {"a": 1, "b": 2})
    assert aggregator.calls[0].options["tools"][0]["function"]["name"] == "add"
    assert all("tools" not in call.options for call in proposer.calls)
    assert "a draft" in aggregator.calls[0].text


def test_streamed_tool_calls_come_with_the_last_piece() -> None:
    llm = as_llm(scripted("g", [CALL], is_function_calling_model=True))
    *_, last = llm.stream_chat_with_tools([TOOL], user_msg="What is 1 + 2?")
    assert [call.tool_name for call in llm.get_tool_calls_from_response(last)] == ["add"]


def test_the_chosen_function_is_called() -> None:
    llm = as_llm(scripted("g", [CALL], is_function_calling_model=True))
    assert str(llm.predict_and_call([TOOL], user_msg="What is 1 + 2?")) == "3"


def test_an_aggregator_that_stands_in_gets_no_tools() -> None:
    stand_in = scripted("a", ["draft", "draft", "plain words"])
    failing = scripted("g", [ValueError("down")], is_function_calling_model=True)
    llm = as_llm(failing, [stand_in])
    response = llm.chat_with_tools([TOOL], user_msg="What is 1 + 2?")
    assert response.message.content == "plain words"
    assert stand_in.calls[-1].options == {}


def test_tools_for_an_aggregator_that_is_no_function_caller_are_refused_by_name() -> None:
    class Agent:
        name = "an agent"

        def run(self, **_: object) -> None: ...

    llm = as_llm(Agent())
    with pytest.raises(ConfigurationError, match="an agent calls no functions"):
        llm.chat_with_tools([TOOL], user_msg="What is 1 + 2?")


@pytest.mark.parametrize("messages", [[], [ChatMessage(content=" ")]], ids=["none", "blank"])
def test_an_empty_conversation_is_refused_by_every_method(messages: list[ChatMessage]) -> None:
    llm = as_llm()

    async def drained() -> None:
        async for _ in await llm.astream_chat(messages):
            pass

    for ask in (
        lambda: llm.chat(messages),
        lambda: asyncio.run(llm.achat(messages)),
        lambda: list(llm.stream_chat(messages)),
        lambda: asyncio.run(drained()),
        lambda: llm.complete(" "),
        lambda: list(llm.stream_complete(" ")),
    ):
        with pytest.raises(ConfigurationError, match="empty"):
            ask()


class Broken(ScriptedLLM):
    """Its stream fails after one piece."""

    def __init__(self) -> None:
        super().__init__("unused", model="g")

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        async def pieces() -> ChatResponseAsyncGen:
            yield ChatResponse(message=ChatMessage(role="assistant", content="Half an"), delta="Half an")
            raise ConnectionError("the line went dead")

        return pieces()


@pytest.mark.parametrize("method", ["stream_chat", "stream_complete"])
def test_a_stream_that_breaks_off_is_not_gone_on_with_by_another_model(method: str) -> None:
    members = [scripted("a", ["draft", "a whole answer"])]
    llm = as_llm(Broken(), members, num_layers=2)
    asked: Any = "Why?" if method == "stream_complete" else [ChatMessage(content="Why?")]
    said: list[str] = []
    with pytest.raises(BrokenStreamError, match=r"broke off after 'Half an'.* answer of a\. Ask again"):
        said.extend(piece.delta for piece in getattr(llm, method)(asked))
    assert said == ["Half an"]


def test_a_stream_that_fails_before_its_first_piece_is_another_models_from_its_beginning() -> None:
    llm = as_llm(scripted("g", [ValueError("down")]), [scripted("a", ["draft", "whole"])], num_layers=2)
    assert [piece.delta for piece in llm.stream_complete("Why?")] == ["whole", ""]


def test_an_error_of_the_mixture_is_an_error_of_the_llm() -> None:
    broken = as_llm(
        scripted("g", lambda _: ValueError("down")), [scripted("a", lambda _: ValueError("down"))]
    )
    with pytest.raises(MixtureError, match="No model of the mixture answered"):
        broken.complete("Why?")
    with pytest.raises(MixtureError, match="No model of the mixture answered"):
        list(broken.stream_complete("Why?"))
