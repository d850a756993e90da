"""Real LlamaIndex agents with the mixture for an LLM: proposers draft, the aggregator alone acts."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock

from llama_index.packs.mixture_of_agents import MixtureOfAgentsLLM, MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

# LlamaIndex's own: its workflow library looks at every attribute of an agent, pydantic's deprecated
# ones included, and its ReActAgent asks what is always true.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields(_set)?__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_(computed_)?fields' attribute on the instance"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step"),
]


class Calculator:
    """A tool that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        self.asked.append((a, b))
        return a + b


def calling(tool: str, **arguments: Any) -> ChatMessage:
    block = ToolCallBlock(tool_call_id=f"call_{tool}", tool_name=tool, tool_kwargs=arguments)
    return ChatMessage(role="assistant", blocks=[block])


def mixture(*answers: Any, calls_functions: bool = True) -> tuple[MixtureOfAgentsLLM, list[ScriptedLLM]]:
    proposers = [ScriptedLLM("It is about three.", model="a"), ScriptedLLM("Add them.", model="b")]
    aggregator = ScriptedLLM(list(answers), model="g", is_function_calling_model=calls_functions)
    pack = MixtureOfAgentsPack(aggregator, proposers, num_layers=2)
    return pack.as_llm(), [*proposers, aggregator]


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_function_agent_acts_on_the_aggregators_calls_and_nobody_elses(streaming: bool) -> None:
    llm, members = mixture(calling("add", a=1, b=2), "The sum is 3.")
    calculator = Calculator()
    agent = FunctionAgent(
        tools=[calculator.add], llm=llm, streaming=streaming, system_prompt="Use your tools."
    )

    output = await agent.run(user_msg="What is 1 + 2?")

    assert str(output) == "The sum is 3."
    assert calculator.asked == [(1, 2)]
    *proposers, aggregator = members
    assert [call.options["tools"][0]["function"]["name"] for call in aggregator.calls] == ["add", "add"]
    assert all("It is about three." in call.text for call in aggregator.calls)
    for proposer in proposers:
        assert len(proposer.calls) == 2
        assert all(call.options == {} for call in proposer.calls)


async def test_the_tools_result_is_in_what_everyone_reads_next() -> None:
    llm, members = mixture(calling("add", a=1, b=2), "The sum is 3.")
    await FunctionAgent(tools=[Calculator().add], llm=llm).run(user_msg="What is 1 + 2?")
    *proposers, aggregator = members
    assert (aggregator.calls[1].messages[-1].role, aggregator.calls[1].messages[-1].content) == (
        MessageRole.TOOL,
        "3",
    )
    for proposer in proposers:  # offered no tools, so told in words
        *_, called, result = proposer.calls[1].messages
        assert called.content == '(called add with {"a": 1, "b": 2})'
        assert (result.role, result.content) == (MessageRole.USER, "Result of add: 3")


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_react_agent_needs_no_function_calling(streaming: bool) -> None:
    llm, members = mixture(
        'Thought: I need a tool.\nAction: add\nAction Input: {"a": 1, "b": 2}',
        "Thought: I can answer.\nAnswer: The sum is 3.",
        calls_functions=False,
    )
    calculator = Calculator()
    agent = ReActAgent(tools=[calculator.add], llm=llm, streaming=streaming)
    assert str(await agent.run(user_msg="What is 1 + 2?")) == "The sum is 3."
    assert calculator.asked == [(1, 2)]
    assert all("Observation: 3" in member.calls[1].text for member in members)


async def test_an_agent_workflow_hands_over_between_agents_on_one_mixture() -> None:
    llm, _ = mixture(
        calling("handoff", to_agent="calculator", reason="sums"), calling("add", a=1, b=2), "The sum is 3."
    )
    calculator = Calculator()
    desk = FunctionAgent(
        name="desk", description="Takes questions.", llm=llm, tools=[], can_handoff_to=["calculator"]
    )
    sums = FunctionAgent(name="calculator", description="Adds.", llm=llm, tools=[calculator.add])
    workflow = AgentWorkflow(agents=[desk, sums], root_agent="desk")
    output: Any = await workflow.run(user_msg="What is 1 + 2?")
    assert str(output) == "The sum is 3."
    assert output.current_agent_name == "calculator"
    assert calculator.asked == [(1, 2)]


async def test_an_agent_workflow_from_tools_takes_the_mixture_as_it_takes_any_llm() -> None:
    llm, _ = mixture(calling("add", a=1, b=2), "The sum is 3.")
    workflow = AgentWorkflow.from_tools_or_functions([Calculator().add], llm=llm)
    assert str(await workflow.run(user_msg="What is 1 + 2?")) == "The sum is 3."
