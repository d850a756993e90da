"""A mixture in an agent's reasoning loop: asked, bounded, and never without end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock

from llama_index.packs.mixture_of_agents import ConfigurationError, MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.agents import Crew, Member, mixture_tool
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
from tests.agent_warnings import AGENTS_OWN
from tests.agents.crews import crew_of

pytestmark = AGENTS_OWN


def asks(question: str = "Why?") -> ChatMessage:
    call = ToolCallBlock(tool_call_id="1", tool_name="ask_mixture", tool_kwargs={"question": question})
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[call])


def caller(script: Any) -> ScriptedLLM:
    return ScriptedLLM(script, model="caller", is_function_calling_model=True)


async def test_an_agent_asks_a_mixture_and_reads_its_answer() -> None:
    proposer = ScriptedLLM("a draft", model="a")
    pack = MixtureOfAgentsPack(ScriptedLLM("mixed"), [proposer], num_layers=2)
    llm = caller([asks("Why is the sky blue?"), "Because mixed."])
    agent = FunctionAgent(tools=[mixture_tool(pack)], llm=llm)
    assert str(await agent.run(user_msg="Go.")) == "Because mixed."
    assert "mixed" in (llm.calls[1].messages[-1].content or "")
    assert proposer.calls[0].messages[-1].content == "Why is the sky blue?"


async def test_who_was_not_heard_is_told() -> None:
    pack = MixtureOfAgentsPack(
        ScriptedLLM("mixed"),
        [ScriptedLLM("x"), ScriptedLLM([RuntimeError("no")], model="b")],
        num_layers=2,
        max_retries=0,
    )
    said = (await mixture_tool(pack).acall(question="Why?")).content
    assert said.startswith("mixed\n(Not heard: b, layer 1: RuntimeError: no")


async def test_a_crew_is_a_tool_too() -> None:
    assert (await mixture_tool(crew_of(), name="crew").acall(question="So?")).content == "the answer"


async def test_a_mixture_whose_proposer_asks_it_again_comes_to_an_end() -> None:
    packs: list[MixtureOfAgentsPack] = []
    holder = SimpleNamespace(arun=lambda question: packs[0].arun(question))

    def script(messages: Any) -> Any:
        return "enough" if messages[-1].role == MessageRole.TOOL else asks()

    llm = caller(script)
    agent = FunctionAgent(name="again", tools=[mixture_tool(holder)], llm=llm)
    packs.append(MixtureOfAgentsPack(ScriptedLLM("mixed"), [agent], num_layers=2))
    response = await packs[0].arun("Why?")
    assert str(response) == "mixed"
    refused = [call for call in llm.calls if "mixtures are at work inside each other" in call.text]
    assert refused
    assert len(llm.calls) <= 8


@pytest.mark.parametrize("is_guarded", [True, False])
async def test_one_that_asks_itself_comes_to_an_end_with_one_call_in_flight(is_guarded: bool) -> None:
    packs: list[MixtureOfAgentsPack] = []

    async def ask_mixture(question: str) -> str:
        """Ask."""
        return str(await packs[0].arun(question))

    def script(messages: Any) -> Any:
        return "enough" if messages[-1].role == MessageRole.TOOL else asks()

    llm = caller(script)
    holder = SimpleNamespace(arun=lambda question: packs[0].arun(question))
    tools: list[Any] = [mixture_tool(holder) if is_guarded else ask_mixture]
    agent = FunctionAgent(name="again", tools=tools, llm=llm)
    final = ScriptedLLM("mixed")
    packs.append(MixtureOfAgentsPack(final, [agent], num_layers=2, max_concurrency=1, timeout=20))
    assert str(await packs[0].arun("Why?")) == "mixed"
    assert len(llm.calls) <= 8


async def test_a_crew_whose_member_asks_it_again_comes_to_an_end_with_one_task_at_once() -> None:
    crews: list[Crew] = []

    async def ask_mixture(question: str) -> str:
        """Ask."""
        return str(await crews[0].arun(question))

    llm = caller(lambda messages: "enough" if messages[-1].role == MessageRole.TOOL else asks())
    again = Member("again", "asks again", llm, tools=[ask_mixture])
    crews.append(Crew([again], max_concurrency=1, timeout=20))
    assert str(await crews[0].arun("Why?")) == "enough"
    assert len(llm.calls) <= 8


async def test_a_mixture_that_takes_too_long_is_left_and_that_is_told() -> None:
    slow = LatencyLLM(30)
    pack = MixtureOfAgentsPack(slow, [slow], num_layers=2)
    output = await mixture_tool(pack, seconds=0.3).acall(question="Why?")
    assert output.is_error
    assert "no answer within 0.3 seconds" in output.content
    assert slow.in_flight == 0


async def test_an_empty_question_and_one_who_cannot_be_asked_are_refused() -> None:
    pack = MixtureOfAgentsPack(ScriptedLLM([]), [ScriptedLLM([])], num_layers=2)
    assert (await mixture_tool(pack).acall(question=" ")).is_error
    with pytest.raises(ConfigurationError, match="needs an object with arun"):
        mixture_tool(ScriptedLLM("x"))
