"""Leave to write, asked by an event: nothing is written without a yes, and nobody is waited for in vain."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock

from llama_index.packs.mixture_of_agents.agents import (
    Crew,
    CrewResponse,
    Member,
    Plan,
    Task,
    ToolUse,
    ask_by_event,
)
from llama_index.packs.mixture_of_agents.agents.events import WriteDecisionEvent, WriteQuestionEvent
from llama_index.packs.mixture_of_agents.agents.specialists import data_specialist, visualisation_specialist
from llama_index.packs.mixture_of_agents.agents.tools.database import CsvFolder
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.errors import ToolError
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
from tests.agent_warnings import AGENTS_OWN

pytestmark = AGENTS_OWN


def saves(messages: Any) -> ChatMessage | str:
    if messages[-1].role == MessageRole.TOOL:
        return "That is all."
    call = ToolCallBlock(
        tool_call_id="1", tool_name="save_cleaned", tool_kwargs={"table": "sales", "file": "clean.csv"}
    )
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[call])


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    (tmp_path / "sales.csv").write_text("region,amount\nnorth,3\nnorth,3\n")
    return DataFolder(tmp_path)


def crew(folder: DataFolder, **options: Any) -> Crew:
    specialist = data_specialist(CsvFolder(folder), folder=folder, confirm=ask_by_event)
    llm = ScriptedLLM(saves, model="data", is_function_calling_model=True)
    return Crew([Member.of(specialist, llm)], **options)


async def decided(crew: Crew, *answers: bool, wait: float = 0.0) -> tuple[CrewResponse, list[str]]:
    handler, asked = crew.workflow.run(request="Clean the table."), list[str]()
    async for event in handler.stream_events():
        if isinstance(event, WriteQuestionEvent):
            asked.append(event.what)
            await asyncio.sleep(wait)
            assert handler.ctx is not None
            for approved in answers:
                handler.ctx.send_event(WriteDecisionEvent(question=event.question, approved=approved))
    response: CrewResponse = await handler
    return response, asked


async def test_a_yes_lets_a_tool_write_what_it_said(folder: DataFolder) -> None:
    response, asked = await decided(crew(folder), True)
    assert asked == [f"saving 1 cleaned rows of table 'sales' as 'clean.csv' in {folder.path.name!r}"]
    assert (folder.path / "clean.csv").read_text().splitlines() == ["region,amount", "north,3"]
    assert not response.results[0].observations[0].is_error


@pytest.mark.parametrize("answers", [(False,), (False, True)])
async def test_a_no_stays_a_no_whatever_comes_after(folder: DataFolder, answers: tuple[bool, ...]) -> None:
    response, _ = await decided(crew(folder), *answers)
    assert not (folder.path / "clean.csv").exists()
    assert "was declined" in response.results[0].observations[0].output


async def test_an_answer_to_another_question_is_none(folder: DataFolder) -> None:
    handler = crew(folder, task_timeout=0.5).workflow.run(request="Clean the table.")
    async for event in handler.stream_events():
        if isinstance(event, WriteQuestionEvent):
            assert handler.ctx is not None
            handler.ctx.send_event(WriteDecisionEvent(question=event.question + 1, approved=True))
    with pytest.raises(Exception, match="no result within its timeout"):
        await handler
    assert not (folder.path / "clean.csv").exists()


async def test_a_person_is_waited_for_beyond_the_runs_time(folder: DataFolder) -> None:
    await decided(crew(folder, timeout=1.0), True, wait=1.5)
    assert (folder.path / "clean.csv").exists()


CHART = {"kind": "bar", "x": "region", "y": "amount", "rows": [{"region": "north", "amount": 3}]}


def artist(name: str, folder: DataFolder) -> Member:
    """One that asks at once whether it may save a chart of its own."""
    tools = visualisation_specialist(folder, confirm=ask_by_event).tools
    use = ToolUse("save_chart", {"chart": CHART, "save_as": f"{name}.json"})
    return Member(name, "draws", ScriptedLLM("saved", model=name), tools=tools, always=[use])


async def answered(members: list[Member], tasks: list[Task], *waits: float) -> CrewResponse:
    """A run of a second at most; each of its questions gets a yes after a wait of so many seconds."""
    crew = Crew(members, ScriptedLLM("the answer", model="writer"), timeout=1.0)
    handler = crew.workflow.run(request="Draw.", plan=Plan(tasks=tasks))
    left, loop = list(waits), asyncio.get_running_loop()
    async for event in handler.stream_events():
        if isinstance(event, WriteQuestionEvent):
            assert handler.ctx is not None
            yes = WriteDecisionEvent(question=event.question, approved=True)
            loop.call_later(left.pop(0), handler.ctx.send_event, yes)
    response: CrewResponse = await handler
    return response


async def test_while_one_of_two_questions_is_open_the_clock_stands_still(folder: DataFolder) -> None:
    tasks = [Task(id=name, agent=name, instructions="Draw.") for name in ("a", "b")]
    response = await answered([artist("a", folder), artist("b", folder)], tasks, 0.1, 2.0)
    assert response.text == "the answer"
    assert response.latency_seconds < 1.0


async def test_what_others_begin_meanwhile_does_not_start_the_clock(folder: DataFolder) -> None:
    others = [Member(name, "waits", LatencyLLM(0.2, model=name)) for name in ("b", "c")]
    tasks = [Task(id=name, agent=name, instructions="Draw.") for name in ("a", "b")]
    tasks.append(Task(id="c", agent="c", instructions="Draw.", needs=["b"]))
    response = await answered([artist("a", folder), *others], tasks, 2.0)
    assert [one.task for one in response.results] == ["a", "b", "c"]
    assert response.latency_seconds < 1.0


async def test_where_nobody_reads_the_stream_nothing_is_written_or_waited_for(folder: DataFolder) -> None:
    response = await asyncio.wait_for(crew(folder).arun("Clean the table."), 20)
    (seen,) = response.results[0].observations
    assert "nobody reads this run's stream" in seen.output
    assert not (folder.path / "clean.csv").exists()


async def test_outside_a_crew_nobody_is_there_to_ask() -> None:
    with pytest.raises(ToolError, match="no crew is at work"):
        await ask_by_event("saving a file")
