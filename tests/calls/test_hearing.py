"""What an agent does is heard: tool calls in details and as events, of bounded length, whoever it is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.tools import FunctionTool

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack, ProgressEvent
from llama_index.packs.mixture_of_agents.calls.hearing import (
    LONGEST_OUTPUT,
    MOST_USES,
    Hearing,
    Moment,
    heard_by,
    plain_arguments,
)
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.agent_warnings import AGENTS_OWN

pytestmark = AGENTS_OWN


def result(output: str, is_error: bool = False, **arguments: Any) -> Any:
    said = SimpleNamespace(content=output, is_error=is_error)
    return SimpleNamespace(tool_name="look", tool_kwargs=arguments, tool_output=said)


def test_a_call_and_its_answer_are_told_and_the_answer_is_kept() -> None:
    told: list[Moment] = []
    with heard_by(told.append):
        hearing = Hearing()
    hearing.hear(SimpleNamespace(tool_name="look", tool_kwargs={"at": "sky"}))
    hearing.hear(result("blue", at="sky"))
    assert [(moment.kind, moment.text) for moment in told] == [("acts", ""), ("observes", "blue")]
    kept = {"tool": "look", "arguments": {"at": "sky"}, "output": "blue", "is_error": False}
    assert hearing.details() == {"tool_calls": [kept]}


def test_a_megabyte_is_cut_and_many_calls_are_counted() -> None:
    hearing = Hearing()
    for _ in range(MOST_USES + 7):
        hearing.hear(result("x" * 1_000_000, at="y" * 1_000_000))
    details = hearing.details()
    assert len(details["tool_calls"]) == MOST_USES
    assert details["tool_calls_left_out"] == 7
    assert len(json.dumps(details)) < MOST_USES * (LONGEST_OUTPUT + 2_000)
    assert "(cut: 1000000 characters)" in details["tool_calls"][0]["output"]


def test_what_is_said_in_pieces_is_told_once() -> None:
    told: list[Moment] = []
    with heard_by(told.append):
        hearing = Hearing()
    whole = SimpleNamespace(response=SimpleNamespace(content="I look."))
    for event in (SimpleNamespace(delta="I "), SimpleNamespace(delta="look."), whole, whole):
        hearing.hear(event)
    assert [moment.text for moment in told] == ["I ", "look.", "I look."]
    assert hearing.details() == {}


def test_a_listener_that_fails_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(moment: Moment) -> None:
        raise RuntimeError("deaf")

    with heard_by(fail):
        hearing = Hearing()
    hearing.hear(result("blue"))
    assert hearing.details()["tool_calls"][0]["output"] == "blue"
    assert "a listener failed" in caplog.text


def test_outside_the_block_nobody_is_told() -> None:
    told: list[Moment] = []
    with heard_by(told.append):
        pass
    Hearing().hear(result("blue"))
    assert not told


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.builds(object),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_arguments_of_any_kind_become_json(arguments: dict[str, Any]) -> None:
    assert set(json.loads(json.dumps(plain_arguments(arguments)))) == set(arguments)


def test_arguments_that_are_no_mapping_are_kept_as_they_are() -> None:
    assert plain_arguments(None) == {}
    assert plain_arguments("sky") == {"input": "sky"}


def fails(city: str) -> str:
    """Tell the weather."""
    raise RuntimeError(f"no weather in {city}")


def calling(city: str) -> ChatMessage:
    call = ToolCallBlock(tool_call_id="1", tool_name="fails", tool_kwargs={"city": city})
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[call])


def answered_with_tools(trace: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
    return [
        use
        for line in lines
        if line["kind"] == "call_answered"
        for use in line.get("details", {}).get("tool_calls", [])
    ]


async def test_an_agent_in_a_mixture_shows_its_tools_as_events_in_its_proposal_and_in_the_trace(
    tmp_path: Path,
) -> None:
    llm = ScriptedLLM([calling("Oslo"), "I do not know."], is_function_calling_model=True)
    agent = FunctionAgent(name="forecaster", tools=[FunctionTool.from_defaults(fails)], llm=llm)
    trace = tmp_path / "trace.jsonl"
    pack = MixtureOfAgentsPack(
        ScriptedLLM("final"), [agent, ScriptedLLM("plain", model="b")], num_layers=2, trace=trace
    )
    seen: list[Any] = [event async for event in pack.astream("Weather in Oslo?")]
    uses = [event for event in seen if isinstance(event, ProgressEvent) and event.tool]
    assert [(event.kind, event.proposer, event.tool) for event in uses] == [
        ("act", "forecaster", "fails"),
        ("observe", "forecaster", "fails"),
    ]
    assert uses[1].reason == "no weather in Oslo"
    (use,) = seen[-1].proposals[0].details["tool_calls"]
    assert use == {
        "tool": "fails",
        "arguments": {"city": "Oslo"},
        "output": "no weather in Oslo",
        "is_error": True,
    }
    assert seen[-1].proposals[1].details == {}
    assert '"tool":"fails"' in trace.read_text().replace('": "', '":"')
