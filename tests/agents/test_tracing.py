"""The trace of a crew: what it did is in it, as it happened; how it ended; nothing that is to be left out."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from workflows import Context

from llama_index.packs.mixture_of_agents import ConfigurationError, MixtureError, MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.agents import Crew, Member, Plan, Task, ToolUse
from llama_index.packs.mixture_of_agents.agents.board import BOARD_TOOLS, Board
from llama_index.packs.mixture_of_agents.agents.events import (
    ActEvent,
    AggregateEvent,
    AnswerEvent,
    CrewEvent,
    ObserveEvent,
    PerceiveEvent,
    PlanDecisionEvent,
    PlanEvent,
    PlanQuestionEvent,
    ReasonEvent,
    RememberEvent,
    ResultEvent,
    TaskEvent,
)
from llama_index.packs.mixture_of_agents.agents.live_crew import wound_up
from llama_index.packs.mixture_of_agents.agents.memory import MEMORY_TOOLS, MemoryTools
from llama_index.packs.mixture_of_agents.agents.memory_notebook import Notebook
from llama_index.packs.mixture_of_agents.agents.results import Observation, Suspicion, TaskResult
from llama_index.packs.mixture_of_agents.agents.tracing import as_event, did
from llama_index.packs.mixture_of_agents.errors import CrewTimeoutError, PlanRejectedError
from llama_index.packs.mixture_of_agents.events import DeltaEvent
from llama_index.packs.mixture_of_agents.records.trace import Trace
from llama_index.packs.mixture_of_agents.records.traces.crew_records import CrewRecord
from llama_index.packs.mixture_of_agents.records.traces.crew_schema import CrewDid
from llama_index.packs.mixture_of_agents.records.traces.reading import read_crews, read_trace
from llama_index.packs.mixture_of_agents.records.traces.redaction import Redaction
from llama_index.packs.mixture_of_agents.records.traces.run_records import choose_run
from llama_index.packs.mixture_of_agents.records.traces.stats import crew_stats_of
from llama_index.packs.mixture_of_agents.results import Usage
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
from tests.agent_warnings import AGENTS_OWN
from tests.agents.crews import THREE, crew_of, followed, member, plan_text, put_away

pytestmark = AGENTS_OWN

_TASK = Task(id="t1", agent="logs", instructions="look")
_AT: dict[str, Any] = {"task": "t1", "agent": "logs"}
_SEEN = Observation(tool="find", arguments={"host": "x"}, output="y", seconds=0.5)
EXAMPLES: dict[str, CrewEvent] = {
    "plan": PlanEvent(plan=Plan(tasks=[_TASK], notes=["mended"]), faults=["a cycle"], seconds=1.5),
    "task": TaskEvent(task=_TASK, absent=["t0"]),
    "perceive": PerceiveEvent(**_AT, results=["t0"], notes=2, tools=["find"]),
    "remember": RememberEvent(**_AT, kind="recalls", texts=["a note"]),
    "reason": ReasonEvent(**_AT, text="so"),
    "act": ActEvent(**_AT, tool="find", arguments={"host": "x", "deep": {"list": [1, None]}}),
    "observe": ObserveEvent(**_AT, observation=_SEEN, warnings=[Suspicion(where="w", form="orders")]),
    "result": ResultEvent(
        result=TaskResult(**_AT, text="found", observations=[_SEEN], usage=Usage(prompt_tokens=3))
    ),
    "aggregate": AggregateEvent(agent="writer", results=["t1"], missing=["t2"], warnings=1),
    "answer": AnswerEvent(text="done", agent="writer", usage=Usage(completion_tokens=2)),
}

WORDS = {type(example): word for word, example in EXAMPLES.items()}


def find(host: str) -> str:
    """Find a host."""
    return f"{host} was seen at noon"


def with_a_tool(**settings: Any) -> list[Member]:
    logs = member("logs", tools=[find], always=[ToolUse("find", {"host": "WS-7"})], **settings)
    return [logs, member("intel"), member("advice")]


def only_crew(path: Path) -> CrewRecord:
    (run,) = read_crews(path)
    return run


@pytest.mark.parametrize("word", EXAMPLES)
def test_an_event_can_be_told_from_its_line(word: str) -> None:
    example = EXAMPLES[word]
    line = did(example, (), Redaction())
    assert line.did == word
    assert as_event(line) == example


@pytest.mark.parametrize(
    ("word", "about"),
    [
        ("dream", {}),
        ("act", {"tool": 7}),
        ("act", {"self": 1, "tool": "t", "task": "t1", "agent": "a"}),
        ("plan", {"plan": {"tasks": [{"id": "x", "agent": "a", "instructions": "i", "needs": ["x"]}]}}),
        ("plan", {"plan": {"tasks": [{"id": "x", "agent": "a", "instructions": "i"}] * 2}}),
    ],
)
def test_what_another_program_wrote_is_no_event(word: str, about: dict[str, Any]) -> None:
    event = as_event(CrewDid(did=word, about=about))
    assert event is None or (word == "act" and event.seconds == 0)


def test_a_lines_own_time_counts() -> None:
    event = as_event(CrewDid(did="reason", seconds=2.0, about={**_AT, "text": "so", "seconds": 9.0}))
    assert event is not None
    assert event.seconds == 2.0


def test_the_names_of_everyones_tools_are_those_they_have(tmp_path: Path) -> None:
    assert tuple(tool.metadata.name for tool in Board(["a"]).tools_for("a")) == BOARD_TOOLS
    tools = MemoryTools(Notebook(tmp_path / "notes.db"), "a").tools()
    assert tuple(tool.metadata.name for tool in tools) == MEMORY_TOOLS


async def test_what_a_crew_says_is_what_its_trace_tells(tmp_path: Path) -> None:
    told = await followed(crew_of(with_a_tool(), trace=tmp_path / "t.jsonl"), "Was WS-7 seen?")
    run = only_crew(tmp_path / "t.jsonl")
    said = [event for event in told.events if isinstance(event, CrewEvent)]
    words = [WORDS[type(event)] for event in said]
    assert sorted(one.did for one in run.did) == sorted(words)
    # Thoughts are gathered until their task goes on.
    assert [one.did for one in run.did if one.did != "reason"] == [one for one in words if one != "reason"]
    firsts = [one for one in run.did if "logs" in (one.about.get("agent"), str(one.about.get("result")))]
    assert [one.did for one in firsts] == ["perceive", "act", "observe", "reason"]
    place = [one.did for one in run.did].index
    assert place("reason") < place("result")
    observed = next(one for one in run.did if one.did == "observe")
    assert observed.about["observation"]["output"] == "WS-7 was seen at noon"
    told_at = [one.seconds for one in run.did if one.did != "reason"]
    assert told_at == sorted(told_at)


async def test_its_beginning_and_end_say_who_was_asked_what_and_what_came_of_it(tmp_path: Path) -> None:
    crew = crew_of(with_a_tool(), trace=str(tmp_path / "t.jsonl"))
    response = await crew.arun("Was WS-7 seen?")
    run = only_crew(tmp_path / "t.jsonl")
    assert (run.run_id, run.status, run.answer, run.tasks) == (response.run_id, "answered", "the answer", 3)
    assert run.question_text == "Was WS-7 seen?"
    assert [(one.name, one.tools) for one in run.crew.members] == [
        ("logs", ["find"]),
        ("intel", []),
        ("advice", []),
    ]
    assert [one.identity.model for one in run.crew.members] == ["logs", "intel", "advice"]
    assert run.crew.planner is not None
    assert run.crew.planner.model == "planner"
    assert [one.model for one in run.crew.writers] == ["aggregator", "planner"]
    assert run.spent == response.usage
    assert run.ended is not None
    assert run.ended.answered_by == "aggregator"
    assert run.started.packages["llama-index-core"]


def test_without_a_trace_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    crew_of().run("So?")
    assert not list(tmp_path.iterdir())


def test_true_writes_to_the_usual_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    crew = crew_of(trace=True)
    first, second = crew.run("So?"), crew.run("And?")
    assert [run.run_id for run in read_crews(tmp_path / "logs/moa")] == [first.run_id, second.run_id]


def test_what_is_no_trace_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="trace"):
        crew_of(trace=7)


def solo_agent(says: str) -> FunctionAgent:
    llm = ScriptedLLM(says, model="solo", is_function_calling_model=True)
    return FunctionAgent(name="solo", description="does it", llm=llm, tools=[])


async def test_pieces_of_a_thought_are_one_line(tmp_path: Path) -> None:
    agent = solo_agent("one two three")
    told = await followed(Crew([agent], trace=tmp_path / "t.jsonl"), "So?")
    pieces = [event.text for event in told.events if isinstance(event, ReasonEvent)]
    assert len(pieces) > 1
    (thought,) = [one for one in only_crew(tmp_path / "t.jsonl").did if one.did == "reason"]
    assert thought.about["text"] == "".join(pieces)


async def test_tasks_that_failed_are_gaps(tmp_path: Path) -> None:
    there = [member("logs", [RuntimeError("down")]), member("intel"), member("advice")]
    crew = crew_of(there, trace=tmp_path / "t.jsonl", max_retries=0, replans=False)
    response = await crew.arun("So?")
    run = only_crew(tmp_path / "t.jsonl")
    assert run.status == "degraded"
    assert run.ended is not None
    gaps = [(gap.task, gap.agent, gap.reason) for gap in run.ended.missing]
    assert gaps == [(gone.task, gone.agent, gone.reason) for gone in response.missing]
    assert gaps[0][:2] == ("t1", "logs")


async def test_a_second_plan_is_in_it(tmp_path: Path) -> None:
    there = [member("logs", [RuntimeError("down"), "up again"]), member("intel"), member("advice")]
    plans = [plan_text(("a", "logs", [])), plan_text(("b", "logs", []))]
    crew = crew_of(there, ScriptedLLM(plans, model="planner"), trace=tmp_path / "t.jsonl", max_retries=0)
    await crew.arun("So?")
    states = [one.about["state"] for one in only_crew(tmp_path / "t.jsonl").did if one.did == "plan"]
    assert states == ["made", "confirmed", "made", "again"]


async def test_a_deadline_keeps_what_was_there(tmp_path: Path) -> None:
    slow = LatencyLLM(30, "late", model="advice")
    there = [member("logs"), member("intel"), member("advice", slow)]
    with pytest.raises(CrewTimeoutError):
        await crew_of(there, timeout=1, trace=tmp_path / "t.jsonl").arun("So?")
    run = only_crew(tmp_path / "t.jsonl")
    assert run.status == "timeout"
    assert run.ended is not None
    assert run.ended.error is not None
    assert run.ended.error.type == "CrewTimeoutError"
    assert [one.about["result"]["task"] for one in run.did if one.did == "result"] == ["t1", "t2"]


async def test_a_run_nobody_had_an_answer_in_has_failed(tmp_path: Path) -> None:
    there = [member(name, [RuntimeError("down")]) for name in ("logs", "intel", "advice")]
    down = {"answer": [RuntimeError("down too")], "plans": [RuntimeError("no")]}
    crew = crew_of(there, **down, max_retries=0, trace=tmp_path / "t")
    with pytest.raises(MixtureError):
        await crew.arun("So?")
    run = only_crew(tmp_path / "t")
    assert (run.status, run.answer) == ("failed", "")


async def test_a_plan_that_a_person_rejects_cancels_the_run(tmp_path: Path) -> None:
    crew = crew_of(confirm=lambda plan: False, trace=tmp_path / "t.jsonl")
    with pytest.raises(PlanRejectedError):
        await crew.arun("So?")
    assert only_crew(tmp_path / "t.jsonl").status == "cancelled"


async def test_whoever_leaves_has_cancelled_it(tmp_path: Path) -> None:
    stream = crew_of(trace=tmp_path / "t.jsonl").astream("So?")
    async for item in stream:
        if isinstance(item, TaskEvent):
            break
    await stream.aclose()
    assert only_crew(tmp_path / "t.jsonl").status == "cancelled"


async def test_a_run_that_was_put_away_goes_on_under_its_name(tmp_path: Path) -> None:
    crew = crew_of(confirm="events", trace=tmp_path / "t.jsonl")
    kept = await put_away(crew)
    again = crew.workflow.run(ctx=Context.from_dict(crew.workflow, kept))
    assert again.ctx is not None
    again.ctx.send_event(PlanDecisionEvent())
    response: Any = await again
    first, second = read_crews(tmp_path / "t.jsonl")
    assert first.run_id == second.run_id == response.run_id
    assert (second.question_text, second.status, second.tasks) == ("So?", "answered", 3)


async def test_redacted_no_text_of_anyone_is_in_the_file(tmp_path: Path) -> None:
    told = plan_text(("find_the_host", "logs", []), ("t2", "intel", ["find_the_host"]))
    crew = crew_of(
        with_a_tool(role="be brief"),
        told,
        trace=Trace(tmp_path / "t.jsonl", redact=True),
    )
    await crew.arun("Was WS-7 seen?")
    written = (tmp_path / "t.jsonl").read_text()
    for text in ("WS-7", "seen", "noon", "says so", "the answer", "find_the_host", "do t2", "Windows"):
        assert text not in written, text
    run = only_crew(tmp_path / "t.jsonl")
    assert run.started.redacted
    acted = next(one for one in run.did if one.did == "act")
    assert (acted.about["agent"], acted.about["tool"]) == ("logs", "find")
    plan = next(one for one in run.did if one.did == "plan").about["plan"]
    assert plan["tasks"][1]["id"] == "t2"
    assert plan["tasks"][1]["needs"] == [plan["tasks"][0]["id"]]


async def test_what_a_tool_is_called_with_is_text_whatever_its_field_is_called(tmp_path: Path) -> None:
    def look(agent: str, id: str) -> str:
        """Look."""
        return "ok"

    logs = member("logs", tools=[look], always=[ToolUse("look", {"agent": "Mallory", "id": "t1"})])
    crew = crew_of([logs, member("intel"), member("advice")], trace=Trace(tmp_path / "t", redact=True))
    await crew.arun("So?")
    acted = next(one for one in only_crew(tmp_path / "t").did if one.did == "act")
    assert "Mallory" not in (tmp_path / "t").read_text()
    assert list(acted.about["arguments"]) == ["redacted"]


async def test_neither_names_of_fields_nor_tools_that_a_model_made_up_are_in_the_file(tmp_path: Path) -> None:
    made_up = ToolCallBlock(tool_call_id="1", tool_name="find_Jane_Roe", tool_kwargs={"Roe": 1})
    nested = ToolCallBlock(tool_call_id="2", tool_name="people", tool_kwargs={"people": {"Jane Roe": 4711}})
    script = [ChatMessage(role="assistant", blocks=[made_up]), ChatMessage(role="assistant", blocks=[nested])]

    def people(people: dict[str, int]) -> str:
        """Look."""
        return "ok"

    llm = ScriptedLLM([*script, "Done."], model="solo", is_function_calling_model=True)
    agent = FunctionAgent(name="solo", description="does it", llm=llm, tools=[people])
    await Crew([agent], trace=Trace(tmp_path / "t", redact=True)).arun("So?")
    written = (tmp_path / "t").read_text()
    assert all(text not in written for text in ("Jane", "Roe", "4711"))
    acts = [one.about["tool"] for one in only_crew(tmp_path / "t").did if one.did == "act"]
    assert acts[1] == "people"
    assert "redacted" in acts[0]
    assert only_crew(tmp_path / "t").crew.members[0].tools == ["people"]


@pytest.mark.parametrize("redact", [lambda text: "[gone]", ["(?i)[a-z]+_"]], ids=["function", "expression"])
async def test_tasks_stay_apart_whatever_is_made_of_texts(tmp_path: Path, redact: Any) -> None:
    plan = plan_text(("find_host", "logs", []), ("look_up", "intel", ["find_host"]))
    out = [member("logs", max_tool_calls=1), member("intel"), member("advice")]
    await crew_of(out, plan, trace=Trace(tmp_path / "t", redact=redact)).arun("So?")
    made = next(one for one in only_crew(tmp_path / "t").did if one.did == "plan")
    event = as_event(made)
    assert isinstance(event, PlanEvent)
    first, second = event.plan.tasks
    assert (second.needs, first.id != second.id) == ([first.id], True)
    assert "find_host" not in (tmp_path / "t").read_text()


async def test_a_function_rewrites_what_stands_in_arguments_name_by_name(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t", redact=lambda text: text.replace("WS-7", "HOST"))
    await crew_of(with_a_tool(), trace=trace).arun("So?")
    acted = next(one for one in only_crew(tmp_path / "t").did if one.did == "act")
    assert acted.about["arguments"] == {"host": "HOST"}


async def test_keys_are_never_written(tmp_path: Path) -> None:
    key = "sk-proj-1234567890abcdefghij"
    logs = member("logs", f"the key is {key}")
    await crew_of([logs, member("intel"), member("advice")], trace=tmp_path / "t").arun(f"Use {key}.")
    written = (tmp_path / "t").read_text()
    assert key not in written
    assert "[secret]" in written


async def test_runs_of_crews_and_mixtures_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    models = [ScriptedLLM(f"answer {number}", model=f"m{number}") for number in range(3)]
    pack = MixtureOfAgentsPack(models[0], models[1:], num_layers=2, trace=path)
    crew = crew_of(trace=path)
    mixed, responses = await asyncio.gather(
        pack.arun("Why?"), asyncio.gather(*(crew.arun(f"So {number}?") for number in range(5)))
    )
    (run,) = read_trace(path)
    assert run.run_id == mixed.run_id
    crews = {one.run_id: one for one in read_crews(path)}
    assert {one.run_id for one in responses} == set(crews)
    assert all(one.status == "answered" and one.tasks == 3 for one in crews.values())


async def test_pieces_of_the_answer_are_no_lines(tmp_path: Path) -> None:
    told = await followed(crew_of(trace=tmp_path / "t"), "So?")
    assert any(isinstance(event, DeltaEvent) for event in told.events)
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "t").read_text().splitlines()]
    assert set(kinds) == {"message", "crew_started", "crew_did", "crew_ended"}


def test_a_killed_run_is_unfinished(tmp_path: Path) -> None:
    crew_of(trace=tmp_path / "t").run("So?")
    lines = (tmp_path / "t").read_text().splitlines(keepends=True)
    (tmp_path / "t").write_text("".join(lines[:-1]) + lines[-1][:20])
    assert only_crew(tmp_path / "t").status == "unfinished"


async def test_what_cannot_be_written_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    crew = crew_of(trace=Trace(folder=tmp_path / "file" / "folder"))
    assert str(await crew.arun("So?")) == "the answer"
    assert "cannot be written" in caplog.text


def unhappy(path: Path) -> dict[str, Crew]:
    """Crews that fail, each in another step."""
    down = [member(name, [RuntimeError("down")]) for name in ("logs", "intel", "advice")]
    slow = [member("logs"), member("intel"), member("advice", LatencyLLM(30, "late", model="advice"))]

    def raises(plan: Plan) -> bool:
        raise ValueError("nobody is here")

    once = ScriptedLLM([THREE], model="planner")
    return {
        "failed": crew_of(down, once, [RuntimeError("down")], max_retries=0, replans=False, trace=path),
        "timeout": crew_of(slow, timeout=1, trace=path),
        "cancelled": crew_of(confirm=lambda plan: False, trace=path),
        "in the plan": crew_of(confirm=raises, trace=path),
    }


@pytest.mark.parametrize("how", ["failed", "timeout", "cancelled", "in the plan"])
async def test_who_awaits_a_run_at_once_finds_its_end_written(tmp_path: Path, how: str) -> None:
    handler = unhappy(tmp_path / "t")[how].workflow.run(request="So?")
    with pytest.raises((MixtureError, ValueError)):
        await handler
    assert only_crew(tmp_path / "t").status == ("failed" if how == "in the plan" else how)


async def test_a_run_without_an_answer_tells_what_it_took_and_lacked(tmp_path: Path) -> None:
    with pytest.raises(MixtureError):
        await unhappy(tmp_path / "t")["failed"].arun("So?")
    ended = only_crew(tmp_path / "t").ended
    assert ended is not None
    assert [gap.task for gap in ended.missing] == ["t1", "t2", "t3"]
    assert ended.latency_seconds > 0
    with pytest.raises(PlanRejectedError):
        await unhappy(tmp_path / "other")["cancelled"].arun("So?")
    assert only_crew(tmp_path / "other").spent.completion_tokens  # the planner's


@pytest.mark.parametrize("door", ["arun", "workflow"])
def test_a_loop_that_ends_with_a_run_leaves_no_memory_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, door: str
) -> None:
    there = [member("logs", memory=Notebook(tmp_path / "notes.db")), member("intel"), member("advice")]
    crew = crew_of(there)

    async def asked() -> Any:
        return await (crew.arun("So?") if door == "arun" else crew.workflow.run(request="So?"))

    with ThreadPoolExecutor() as threads:
        assert str(threads.submit(asyncio.run, asked()).result(30)) == "the answer"
    assert not caplog.records


async def test_of_a_run_taken_up_again_the_end_that_is_there_stays(tmp_path: Path) -> None:
    crew = crew_of(confirm="events", trace=tmp_path / "t")
    first = crew.workflow.run(request="So?")
    async for event in first.stream_events():
        if isinstance(event, PlanQuestionEvent):
            break
    assert first.ctx is not None
    again = crew.workflow.run(ctx=Context.from_dict(crew.workflow, first.ctx.to_dict()))
    assert again.ctx is not None
    again.ctx.send_event(PlanDecisionEvent())
    response: Any = await again
    await first.cancel_run()
    await wound_up(first)
    records = read_crews(tmp_path / "t")
    assert [run.status for run in records] == ["unfinished", "answered"]
    assert choose_run(records, response.run_id[:6]).status == "answered"
    assert choose_run(records, None).status == "answered"
    assert crew_stats_of(records).runs == {"answered": 1}


async def test_a_long_thought_is_written_while_it_lasts(tmp_path: Path) -> None:
    agent = solo_agent(" ".join(["word"] * 2_000))
    await Crew([agent], trace=tmp_path / "t").arun("So?")
    thoughts = [one.about["text"] for one in only_crew(tmp_path / "t").did if one.did == "reason"]
    assert len(thoughts) > 3
    assert "".join(thoughts) == " ".join(["word"] * 2_000)
