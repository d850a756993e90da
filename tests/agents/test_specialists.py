"""The three specialists: they say what they can, and become agents that use their tools within bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock

from llama_index.packs.mixture_of_agents.agents.specialists import (
    Specialist,
    analysis_specialist,
    data_specialist,
    specialist,
    visualisation_specialist,
)
from llama_index.packs.mixture_of_agents.agents.tools.database import CsvFolder
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

# LlamaIndex's agents still use what pydantic and the workflows have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    (tmp_path / "sales.csv").write_text("region,amount\nnorth,3\nsouth,4.5\n")
    return DataFolder(tmp_path)


def _three(folder: DataFolder) -> list[Specialist]:
    data = data_specialist(CsvFolder(folder), folder=folder)
    return [data, analysis_specialist(folder), visualisation_specialist(folder)]


def test_each_says_what_it_can(folder: DataFolder) -> None:
    three = _three(folder)
    assert [one.name for one in three] == ["data", "analysis", "visualisation"]
    assert all(one.skills and one.instructions and one.tools for one in three)


def test_tools_are_described_shortly_enough_for_any_provider(folder: DataFolder) -> None:
    for one in _three(folder):
        for tool in one.tools:
            described: dict[str, Any] = tool.metadata.to_openai_tool()
            assert described["function"]["description"]


def test_the_tools_that_write_wait_for_a_person(folder: DataFolder) -> None:
    waits = {tool.metadata.name for one in _three(folder) for tool in one.tools if tool.seconds > 60}
    assert waits == {"save_cleaned", "save_chart"}


@pytest.mark.parametrize("calls", [True, False])
def test_the_model_decides_how_it_uses_tools(folder: DataFolder, calls: bool) -> None:
    model = ScriptedLLM("done", is_function_calling_model=calls)
    agent = analysis_specialist(folder).agent(model)
    assert type(agent) is (FunctionAgent if calls else ReActAgent)


async def test_a_specialist_answers_with_what_its_tools_found(folder: DataFolder) -> None:
    sql = "SELECT sum(amount) FROM sales"
    call = ToolCallBlock(tool_call_id="1", tool_name="query", tool_kwargs={"sql": sql})
    script: list[Any] = [ChatMessage(role="assistant", blocks=[call]), "7.5 in all"]
    model = ScriptedLLM(script, is_function_calling_model=True)
    agent = data_specialist(CsvFolder(folder)).agent(model)
    result: Any = await agent.run("How much was sold?")
    assert str(result) == "7.5 in all"
    assert [call.tool_output.raw_output.rows for call in result.tool_calls] == [[[7.5]]]


async def test_reasoning_in_text_uses_the_same_tools(folder: DataFolder) -> None:
    act = 'Thought: look\nAction: query\nAction Input: {"sql": "DELETE FROM sales"}'
    model = ScriptedLLM([act, "Thought: I can answer.\nAnswer: refused"])
    result = await data_specialist(CsvFolder(folder)).agent(model).run("Delete everything")
    assert str(result) == "refused"
    assert "only SELECT" in model.calls[1].text


def test_two_tools_of_one_name_are_refused() -> None:
    def look() -> str:
        return "seen"

    with pytest.raises(ConfigurationError, match="look"):
        specialist("one", "looks", "Look.", [look, look])
