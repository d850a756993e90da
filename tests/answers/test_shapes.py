"""Shapes: what is sent for an answer in a shape, and that it is read back however it came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms import MockLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel

from llama_index.packs.mixture_of_agents.answers.shapes import (
    read_shape,
    shape_in_text,
    shaped_request,
    strict_schema,
)
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


class Person(BaseModel):
    """A person."""

    name: str
    trade: str = ""


class People(BaseModel):
    """Some people."""

    people: list[Person]


class Pick(BaseModel):
    """A number and why."""

    choice: int
    reason: str = ""


NASTY = "how about {x} and {} and %s and %(y)d?"


def question() -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=NASTY)]


def said(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=text)


def called(arguments: dict[str, Any] | str) -> ChatMessage:
    block = ToolCallBlock(tool_call_id="1", tool_name="Pick", tool_kwargs=arguments)
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[block])


class SchemaLLM(MockLLM):
    """An LLM that holds its text to a schema."""

    takes_json_schema: bool = True


class OldLLM(ScriptedLLM):
    """A class from before tool calls could be required."""

    def _prepare_chat_with_tools(  # type: ignore[override]
        self, tools: Any, user_msg: Any = None, chat_history: Any = None, verbose: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        return {"messages": chat_history, "tools": [tool.metadata.name for tool in tools], "asked": kwargs}


class AppendingLLM(ScriptedLLM):
    """A class that writes into the list it is given."""

    def _prepare_chat_with_tools(self, tools: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        kwargs["chat_history"].append(said("more"))
        return {"messages": kwargs["chat_history"]}


def scripted(kind: type[ScriptedLLM] = ScriptedLLM, **settings: Any) -> ScriptedLLM:
    return kind("x", **settings)


@pytest.mark.parametrize("model", [MockLLM(), ScriptedLLM("x"), object(), None])
def test_a_model_that_can_do_nothing_special_is_asked_as_it_is(model: Any) -> None:
    asked = question()
    messages, options = shaped_request(model, asked, Pick)
    assert messages == asked
    assert messages is not asked
    assert options == {}


def test_a_model_that_calls_functions_gets_the_shape_as_a_tool() -> None:
    model = ScriptedLLM("x", is_function_calling_model=True)
    messages, options = shaped_request(model, question(), Pick)
    assert [message.content for message in messages] == [NASTY]
    (tool,) = options["tools"]
    assert tool["function"]["name"] == "Pick"
    assert tool["function"]["description"] == "A number and why."
    assert tool["function"]["parameters"]["required"] == ["choice", "reason"]


def test_openai_is_told_that_it_must_call_and_takes_the_schema_in_its_strict_mode() -> None:
    model = OpenAI(model="gpt-4o-mini", api_key="none", strict=True)
    _, options = shaped_request(model, question(), People)
    assert options["tool_choice"] == "required"
    parameters = options["tools"][0]["function"]["parameters"]
    for schema in (parameters, parameters["$defs"]["Person"]):
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])


def test_a_class_that_cannot_require_a_call_is_not_asked_to(caplog: pytest.LogCaptureFixture) -> None:
    model = scripted(OldLLM, is_function_calling_model=True)
    _, options = shaped_request(model, question(), Pick)
    assert options["tools"] == ["Pick"]
    assert "tool_required" not in options["asked"]
    assert not caplog.records


def test_the_callers_messages_are_not_written_into() -> None:
    asked = question()
    messages, _ = shaped_request(scripted(AppendingLLM, is_function_calling_model=True), asked, Pick)
    assert len(messages) == 2
    assert len(asked) == 1


def test_a_model_that_holds_to_a_schema_gets_it() -> None:
    _, options = shaped_request(SchemaLLM(max_tokens=None), question(), People)
    assert options == {"json_schema": strict_schema(People.model_json_schema())}


def test_our_local_model_says_that_it_takes_a_schema() -> None:
    shaped_llm = pytest.importorskip("llama_index.packs.mixture_of_agents.sparse_moe.shaped_llm")
    assert shaped_llm.ShapedLLM.takes_json_schema is True


def test_a_strict_schema_requires_everything_and_leaves_the_given_one_alone() -> None:
    schema = {
        "properties": {
            "default": {"type": "string", "default": "x"},
            "inner": {"anyOf": [{"properties": {"a": {"type": "integer"}}}, {"type": "null"}]},
        }
    }
    before = json.dumps(schema)
    strict = strict_schema(schema)
    assert strict["required"] == ["default", "inner"]
    assert strict["properties"]["default"] == {"type": "string"}
    assert strict["properties"]["inner"]["anyOf"][0]["required"] == ["a"]
    assert json.dumps(schema) == before


@pytest.mark.parametrize(
    "arguments", [{"choice": 2, "reason": NASTY}, json.dumps({"choice": 2, "reason": NASTY})]
)
@pytest.mark.parametrize("model", [None, ScriptedLLM("x"), MockLLM()])
def test_a_tool_call_is_read_whoever_made_it(arguments: dict[str, Any] | str, model: Any) -> None:
    assert read_shape(model, called(arguments), Pick) == Pick(choice=2, reason=NASTY)


def test_a_tool_call_that_was_cut_is_read_as_far_as_it_goes() -> None:
    assert read_shape(None, called('{"choice": 2, "reason": "as it'), Pick) == Pick(choice=2, reason="as it")


def test_a_class_that_keeps_its_calls_elsewhere_is_asked_for_them() -> None:
    class Elsewhere(ScriptedLLM):
        def get_tool_calls_from_response(self, *args: Any, **kwargs: Any) -> list[ToolSelection]:
            return [ToolSelection(tool_id="", tool_name="Pick", tool_kwargs={"choice": 3})]

    assert read_shape(scripted(Elsewhere), said(""), Pick) == Pick(choice=3)


def test_a_class_that_fails_to_tell_its_calls_leaves_the_text() -> None:
    class Broken(ScriptedLLM):
        def get_tool_calls_from_response(self, *args: Any, **kwargs: Any) -> list[ToolSelection]:
            raise KeyError("no calls")

    assert isinstance(scripted(Broken), FunctionCallingLLM)
    assert read_shape(scripted(Broken), said('{"choice": 4}'), Pick) == Pick(choice=4)


@pytest.mark.parametrize(
    "text",
    [
        '{"choice": 2, "reason": "ok"}',
        'Sure, here it is:\n```json\n{"choice": 2, "reason": "ok"}\n```\nAnything else?',
        '```\n{"choice": 2, "reason": "ok",}\n```',
        'I think {"choice": 2, "reason": "ok"} is right [1].',
        "{'choice': 2, 'reason': 'ok'}",
        '{"Choice": "2", "REASON": "ok"}',
        '{"result": {"choice": 2, "reason": "ok"}}',
        '{"choice": 2, "reason": "ok"',
        '{"choice": 2, "reason": "ok',
        '{"choice": 2, "reason": "ok"} and again {"choice": 2, "reason": "ok"}',
        '<think>{"choice": 1}</think>{"choice": 2, "reason": "ok"}',
        'a lone " and { {"choice": 2, "reason": "ok"}',
    ],
)
def test_a_shape_is_found_in_a_text(text: str) -> None:
    assert shape_in_text(text, Pick) == Pick(choice=2, reason="ok")


@pytest.mark.parametrize(
    "text",
    [
        'First {"choice": 1} but no: {"choice": 2, "reason": "ok"}',
        '{"choice": 2, "reason": "clear"} Note: draft 1 wanted me to say {"choice": 1}.',
    ],
)
def test_several_that_differ_are_none_since_one_may_be_quoted(text: str) -> None:
    assert shape_in_text(text, Pick) is None


def test_a_bare_line_break_inside_a_string_stays() -> None:
    assert shape_in_text('{"choice": 1, "reason": "a\nb\tc"}', Pick) == Pick(choice=1, reason="a\nb\tc")


@pytest.mark.parametrize(
    "text",
    [
        '{"people": [{"name": "A", "trade": "x"}, {"name": "B"}]}',
        '[{"name": "A", "trade": "x"}, {"name": "B"}]',
        '{"name": "A", "trade": "x"}\n{"name": "B"}',
        '1. {"name": "A", "trade": "x"} 2. {"name": "B"}',
        '{"People": [{"Name": "A", "Trade": "x"}, {"Name": "B"}]}',
        '{"People": {"people": [{"name": "A", "trade": "x"}, {"name": "B"}]}}',
        '{"people": [{"name": "A", "trade": "x"}, {"nme": "C"}, {"name": "B"}]}',
        '{"people": [{"name": "A", "trade": "x"}, {"name": "B"}, {"na',
    ],
)
def test_a_shape_of_one_list_is_found_in_several_forms(text: str) -> None:
    assert shape_in_text(text, People) == People(people=[Person(name="A", trade="x"), Person(name="B")])


def test_a_single_object_is_a_list_of_one() -> None:
    assert shape_in_text('{"name": "A"}', People) == People(people=[Person(name="A")])


@pytest.mark.parametrize(
    "text", ["", "no", "{", "[]", "{}", '{"people": []}', "[1, 2]", '{"choice": "x"}', "}{"]
)
@pytest.mark.parametrize("shape", [Pick, People])
def test_where_there_is_none_there_is_none(text: str, shape: type[BaseModel]) -> None:
    assert shape_in_text(text, shape) is None


PROSE = st.text(alphabet=st.characters(exclude_characters="{}[]<`", exclude_categories=["Cs"]), max_size=40)


@given(
    choice=st.integers(), reason=st.text(st.characters(exclude_categories=["Cs"])), before=PROSE, after=PROSE
)
def test_what_was_written_as_json_is_read_between_any_prose(
    choice: int, reason: str, before: str, after: str
) -> None:
    written = json.dumps({"choice": choice, "reason": reason}).replace("<", "\\u003c").replace("`", "\\u0060")
    assert shape_in_text(f"{before}{written}{after}", Pick) == Pick(choice=choice, reason=reason)


@given(st.text(alphabet="{}[]\":,'\\ a1\n", max_size=60))
def test_no_text_breaks_the_reading(text: str) -> None:
    for shape in (Pick, People):
        found = shape_in_text(text, shape)
        assert found is None or isinstance(found, shape)


@pytest.mark.parametrize("piece", ['{"a":', "[[{", '"{'])
def test_a_million_characters_are_read_in_good_time(piece: str) -> None:
    # Squared, it would be hours: the time limit of each test is what fails.
    assert shape_in_text(piece * (1_000_000 // len(piece)), Pick) is None
