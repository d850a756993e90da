"""Agents at work: tools first or in a loop, bounded whatever tools and models do, with events and records."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.tools import FunctionTool

from llama_index.packs.mixture_of_agents.agents import Crew, Member, ToolUse
from llama_index.packs.mixture_of_agents.agents.events import (
    ActEvent,
    CrewEvent,
    ObserveEvent,
    ReasonEvent,
    RememberEvent,
    ResultEvent,
)
from llama_index.packs.mixture_of_agents.agents.memory_extraction import Extractor
from llama_index.packs.mixture_of_agents.agents.memory_notebook import Notebook
from llama_index.packs.mixture_of_agents.agents.results import TaskMissing, TaskResult
from llama_index.packs.mixture_of_agents.agents.specialists import specialist
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
from tests.agent_warnings import AGENTS_OWN
from tests.agents.crews import Told, calls, crew_of, followed, function_llm, look, member, plan_text

pytestmark = AGENTS_OWN


def fail(host: str) -> str:
    """Look at a host that burns."""
    raise RuntimeError(f"{host} burns")


async def hang(host: str) -> str:
    """Look at a host that never answers."""
    await asyncio.sleep(60)
    return host


def flood(host: str) -> str:
    """Tell everything."""
    return host + "x" * 1_000_000


async def done(one: Member, **options: Any) -> tuple[Told, TaskResult | TaskMissing]:
    told = await followed(
        crew_of([one], plan_text(("t1", one.name, [])), replans=False, max_retries=0, **options)
    )
    (event,) = told.of(ResultEvent)
    record = event.result or event.missing
    assert record is not None
    return told, record


# Tools first.


async def test_tools_are_used_first_and_the_model_words_what_they_found() -> None:
    use = ToolUse("look", lambda instructions: {"host": instructions.upper()})
    one = member("logs", "It is up.", tools=[look], always=[use])
    told, record = await done(one)
    assert record.observations[0].output == "DO T1 is up"
    assert record.observations[0].arguments == {"host": "DO T1"}
    assert isinstance(record, TaskResult)
    assert record.text == "It is up."
    kinds = [type(event).__name__ for event in told.of(CrewEvent)]
    part = kinds[kinds.index("PerceiveEvent") :]
    assert part[:5] == ["PerceiveEvent", "ActEvent", "ObserveEvent", "ReasonEvent", "ResultEvent"]
    (asked,) = one.proposer.model.calls
    assert "=== output of look\nDO T1 is up\n=== end of output of look" in asked.text
    assert "Add no facts of your own" in asked.text


async def test_a_model_is_held_to_what_its_tools_found() -> None:
    one = member(
        "logs",
        "WS01 is up.",
        tools=[look],
        always=[ToolUse("look", {"host": "WS01"})],
        held_to=lambda found: {"regex": "|".join(seen.output for seen in found), "max_tokens": 9},
    )
    await done(one)
    (asked,) = one.proposer.model.calls
    assert (asked.options["regex"], asked.options["max_tokens"]) == ("WS01 is up", 9)


async def test_what_tools_found_is_a_result_where_nothing_can_be_held_to_it() -> None:
    def broken(found: Any) -> dict[str, Any]:
        raise LookupError("no words")

    use = ToolUse("look", {"host": "WS01"})
    _, record = await done(member("logs", "Fine.", tools=[look], always=[use], held_to=broken))
    assert isinstance(record, TaskResult)
    assert record.text == "look: WS01 is up"
    assert "LookupError: no words" in record.cut


async def test_what_tools_found_is_a_result_where_the_model_fails() -> None:
    one = member("logs", [RuntimeError("no model")], tools=[look], always=[ToolUse("look", {"host": "WS01"})])
    told, record = await done(one)
    assert isinstance(record, TaskResult)
    assert record.text == "look: WS01 is up"
    assert "not put in words: RuntimeError: no model" in record.cut
    assert told.response.degraded


async def test_where_tools_fail_too_there_is_no_result_and_both_are_known() -> None:
    one = member("logs", [RuntimeError("no model")], tools=[fail], always=[ToolUse("fail", {"host": "WS01"})])
    _, record = await done(one)
    assert isinstance(record, TaskMissing)
    assert "no model" in record.reason
    assert record.observations[0].is_error


async def test_a_tool_that_fails_is_told_to_the_model() -> None:
    one = member("logs", "It burns.", tools=[fail], always=[ToolUse("fail", {"host": "WS01"})])
    told, record = await done(one)
    assert isinstance(record, TaskResult)
    assert "failed: RuntimeError: WS01 burns" in one.proposer.model.calls[0].text
    assert told.of(ObserveEvent)[0].observation.is_error


async def test_arguments_that_cannot_be_told_are_an_observation() -> None:
    def wrong(instructions: str) -> dict[str, Any]:
        raise KeyError("no host in it")

    one = member("logs", "Nothing.", tools=[look], always=[ToolUse("look", wrong)])
    _, record = await done(one)
    assert record.observations[0].is_error
    assert "no host in it" in record.observations[0].output


async def test_a_tool_that_hangs_is_left_and_that_is_told() -> None:
    one = member("logs", "No.", tools=[hang], always=[ToolUse("hang", {"host": "a"})], tool_seconds=0.2)
    began = time.monotonic()
    _, record = await done(one)
    assert time.monotonic() - began < 5
    assert "no answer within 0.2 seconds" in record.observations[0].output


async def test_a_megabyte_is_cut_everywhere() -> None:
    one = member(
        "logs", "Much.", tools=[flood], always=[ToolUse("flood", {"host": "a"})], tool_characters=5_000
    )
    told, record = await done(one)
    assert len(record.observations[0].output) < 5_200
    assert "the first 5000 of 1000001 characters" in record.observations[0].output
    assert len(told.of(ObserveEvent)[0].observation.output) < 2_100
    assert len(one.proposer.model.calls[0].text) < 7_000


# A loop of model and tools.


async def test_a_model_that_calls_functions_becomes_a_function_agent() -> None:
    one = member("logs", function_llm([calls("look"), "It is up."]), tools=[look])
    told, record = await done(one)
    assert isinstance(record, TaskResult)
    assert record.text == "It is up."
    assert [(o.tool, o.arguments, o.output) for o in record.observations] == [
        ("look", {"host": "WS01"}, "WS01 is up")
    ]
    assert [event.tool for event in told.of(ActEvent)] == ["look"]
    assert [event.observation.output for event in told.of(ObserveEvent)] == ["WS01 is up"]
    assert "".join(event.text for event in told.of(ReasonEvent)).endswith("It is up.")
    tool_turn = one.proposer.model.calls[1].messages[-1].content
    assert "=== output of look\nWS01 is up" in tool_turn  # fenced before the model reads it


async def test_a_model_without_functions_becomes_a_react_agent() -> None:
    script = [
        'Thought: I look.\nAction: look\nAction Input: {"host": "DC01"}',
        "Thought: I can answer.\nAnswer: DC01 is up.",
    ]
    told, record = await done(member("logs", script, tools=[look]))
    assert isinstance(record, TaskResult)
    assert record.text == "DC01 is up."
    assert record.observations[0].output == "DC01 is up"
    assert told.of(ActEvent)[0].arguments == {"host": "DC01"}


async def test_an_agent_that_calls_for_ever_is_cut_and_words_what_it_has() -> None:
    def script(messages: Any) -> Any:
        spent = "used all the turns and tool calls" in str(messages[-1].content)
        return "As far as I came: up." if spent else calls("look")

    one = member("logs", function_llm(script), tools=[look], max_iterations=4)
    told, record = await done(one)
    assert isinstance(record, TaskResult)
    assert record.text == "As far as I came: up."
    assert record.cut == "stopped after 4 turns of model and tools"
    assert len(record.observations) == 3
    assert told.response.degraded


async def test_tool_calls_are_counted_and_further_ones_refused() -> None:
    one = member("logs", function_llm([calls("look", 5), "Enough."]), tools=[look], max_tool_calls=2)
    _, record = await done(one)
    assert isinstance(record, TaskResult)
    assert len(record.observations) == 2
    assert record.cut == "all 2 tool calls were used"
    assert "Not called: all 2 tool calls" in one.proposer.model.calls[1].text


async def test_a_tool_that_is_not_there_and_one_that_raises_cost_no_task() -> None:
    one = member("logs", function_llm([calls("wizard"), calls("fail"), "It burns."]), tools=[fail])
    _, record = await done(one)
    assert isinstance(record, TaskResult)
    assert record.text == "It burns."
    assert "WS01 burns" in record.observations[0].output


# Agents made elsewhere.


async def test_a_ready_agent_is_a_member_and_its_tools_are_seen() -> None:
    agent = FunctionAgent(
        name="ready",
        description="Looks at hosts.",
        tools=[FunctionTool.from_defaults(look)],
        llm=function_llm([calls("look"), "Up."]),
    )
    crew = Crew([agent], ScriptedLLM([plan_text(("t1", "ready", []))]), ScriptedLLM("so"))
    told = await followed(crew)
    (record,) = told.response.results
    assert (record.text, record.observations[0].output) == ("Up.", "WS01 is up")
    assert [event.tool for event in told.of(ActEvent)] == ["look"]


async def test_a_ready_agent_that_calls_for_ever_is_cut_and_what_it_found_stays() -> None:
    agent = FunctionAgent(tools=[FunctionTool.from_defaults(look)], llm=function_llm(lambda _: calls("look")))
    _, record = await done(Member("ready", "looks", agent, max_tool_calls=3))
    assert isinstance(record, TaskResult)
    assert "stopped after 3 tool calls" in record.cut
    assert record.text.startswith("look: WS01 is up")
    _, record = await done(Member("ready", "looks", agent))  # its own end of 20 turns comes first
    assert "stopped after 16 tool calls" in str(getattr(record, "cut", record))


async def test_a_ready_react_agent_that_never_ends_is_missing_with_the_reason() -> None:
    agent = ReActAgent(tools=[], llm=ScriptedLLM('Thought: on.\nAction: x\nAction Input: {"a": 1}'))
    _, record = await done(Member("ready", "thinks", agent, max_tool_calls=100))
    assert isinstance(record, TaskResult | TaskMissing)
    assert "Max iterations of 20" in str(getattr(record, "reason", "") or getattr(record, "cut", ""))


async def test_a_description_becomes_a_member() -> None:
    described = specialist("logs", "reads logs", "Be brief.", [look])
    one = Member.of(described, function_llm([calls("look"), "Up."]))
    _, record = await done(one)
    assert isinstance(record, TaskResult)
    assert "Be brief." in one.proposer.model.calls[0].text


async def test_a_crew_that_asks_itself_is_cut() -> None:
    crews: list[Crew] = []

    async def ask_crew(question: str) -> str:
        """Ask the crew."""
        return str(await crews[0].arun(question))

    one = member("logs", "Well.", tools=[ask_crew], always=[ToolUse("ask_crew", {"question": "Who?"})])
    crews.append(crew_of([one], plan_text(("t1", "logs", []))))
    response = await crews[0].arun("So?")
    assert str(response) == "the answer"
    assert len(one.proposer.model.calls) == 3  # one for each crew inside another


# Talking, and remembering.


async def test_members_write_to_each_other() -> None:
    writes = calls("send_message", to="intel", text="check 10.0.0.7")
    members = [
        member("logs", function_llm([writes, "Told."]), tools=[look]),
        member("intel", "Checked."),
        member("advice", "Fine."),
    ]
    plans = plan_text(("t1", "logs", []), ("t2", "intel", ["t1"]), ("t3", "advice", ["t1"]))
    told = await followed(crew_of(members, plans))
    assert [(note.sender, note.to, note.text) for note in told.response.notes] == [
        ("logs", "intel", "check 10.0.0.7")
    ]
    assert "logs to intel: check 10.0.0.7" in members[1].proposer.model.calls[0].text
    assert "10.0.0.7" not in members[2].proposer.model.calls[0].text


async def test_notes_of_earlier_runs_come_back_and_another_members_do_not(tmp_path: Any) -> None:
    notebook = Notebook(tmp_path / "notes.db")
    notebook.remember("logs", "the user wants lateral movement reported with log lines")
    notebook.remember("intel", "secret of intel about lateral movement")
    one = member("logs", "Up.", memory=notebook)
    crew = crew_of([one], plan_text(("t1", "logs", [])))
    told = await followed(crew)
    asked = one.proposer.model.calls[0].text
    assert "reported with log lines" in asked
    assert "secret of intel" not in asked
    recalled = [event for event in told.of(RememberEvent) if event.kind == "recalls"]
    assert recalled[0].texts == ["the user wants lateral movement reported with log lines"]
    assert told.response.results[0].recalled == 1


async def test_what_an_extractor_draws_is_there_in_the_next_run(tmp_path: Any) -> None:
    notebook = Notebook(tmp_path / "notes.db")
    drawing = Extractor(ScriptedLLM(['{"facts": ["DC01 is the domain controller"]}', '{"facts": []}']))
    one = member("logs", "Up.", memory=notebook, extractor=drawing)
    crew = crew_of([one], plan_text(("t1", "logs", [])))
    first = await followed(crew, "What is DC01?")
    assert [event.texts for event in first.of(RememberEvent) if event.kind == "keeps"] == [
        ["DC01 is the domain controller"]
    ]
    assert notebook.inspect("logs")[0].run_id == first.response.run_id
    await followed(crew, "And what of DC01 now?")
    assert "DC01 is the domain controller" in one.proposer.model.calls[1].text


async def test_a_model_with_functions_keeps_notes_by_itself(tmp_path: Any) -> None:
    notebook = Notebook(tmp_path / "notes.db")
    llm = function_llm([calls("remember", text="WS01 was patched"), "Noted."])
    _, record = await done(member("logs", llm, memory=notebook))
    assert isinstance(record, TaskResult)
    assert [note.text for note in notebook.inspect("logs")] == ["WS01 was patched"]


async def test_a_memory_that_fails_costs_no_task(tmp_path: Any) -> None:
    class Broken:
        def recall(self, *_: Any, **__: Any) -> Any:
            raise OSError("disk full")

        inspect = remember = recall

    told, record = await done(member("logs", "Up.", memory=Broken()))
    assert isinstance(record, TaskResult)
    failed = [event.failed for event in told.of(RememberEvent)]
    assert any("disk full" in reason or "Broken" in reason for reason in failed)


async def test_a_task_beyond_its_time_keeps_what_was_found() -> None:
    one = member("logs", LatencyLLM(30), tools=[look], always=[ToolUse("look", {"host": "a"})], timeout=0.4)
    _, record = await done(one)
    assert isinstance(record, TaskResult)
    assert record.text == "look: a is up"
    assert "no result within its timeout of 0.4 s" in record.cut


async def test_a_tool_that_answers_by_itself_answers_without_markers() -> None:
    tool = FunctionTool.from_defaults(look, return_direct=True)
    _, record = await done(member("logs", function_llm([calls("look")]), tools=[tool]))
    assert isinstance(record, TaskResult)
    assert (record.text, record.observations[0].output) == ("WS01 is up", "WS01 is up")


async def test_without_a_single_result_the_aggregator_is_told_so() -> None:
    answer = ScriptedLLM("Nothing could be looked up.", model="aggregator")
    one = member("logs", [RuntimeError("down")])
    plan = plan_text(("t1", "logs", []))
    response = await crew_of([one], plan, answer, replans=False, max_retries=0).arun("So?")
    assert response.degraded
    assert "none of them brought a result" in answer.calls[0].text
    assert "No result came from: logs (t1)" in answer.calls[0].text


async def test_a_tool_that_would_answer_by_itself_and_fails_is_read_between_markers() -> None:
    tool = FunctionTool.from_defaults(fail, return_direct=True)
    llm = function_llm([calls("fail"), "It burns."])
    _, record = await done(member("logs", llm, tools=[tool]))
    assert isinstance(record, TaskResult)
    assert record.text == "It burns."
    assert "=== output of fail" in str(llm.calls[1].messages[-1].content)
