"""A crew from request to answer: plans, dependencies, concurrency, failures, second plans, deadlines."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage
from workflows.context import JsonSerializer

from llama_index.packs.mixture_of_agents import (
    ConfigurationError,
    MixtureError,
    MixtureOfAgentsPack,
    ProgressEvent,
    Proposer,
)
from llama_index.packs.mixture_of_agents.agents import Crew, CrewResponse, Member, Plan, Task, ToolUse
from llama_index.packs.mixture_of_agents.agents.events import (
    AggregateEvent,
    AnswerEvent,
    CrewEvent,
    PerceiveEvent,
    PlanEvent,
    ReasonEvent,
    ResultEvent,
    TaskEvent,
)
from llama_index.packs.mixture_of_agents.errors import CrewTimeoutError
from llama_index.packs.mixture_of_agents.events import DeltaEvent
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
from tests.agents.crews import SKILLS, THREE, crew_of, followed, member, plan_text


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(250):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to pass")


def calls_of(one: Member) -> list[Any]:
    calls: list[Any] = one.proposer.model.calls
    return calls


async def test_a_request_is_planned_done_and_answered() -> None:
    told = await followed(crew_of())
    response = told.response
    assert str(response) == "the answer"
    assert [(one.task, one.agent, one.text) for one in response.results] == [
        ("t1", "logs", "logs says so"),
        ("t2", "intel", "intel says so"),
        ("t3", "advice", "advice says so"),
    ]
    assert response.plan is not None
    assert response.plan.source == "planner"
    assert not response.degraded
    assert response.answered_by == "aggregator"
    assert response.usage.completion_tokens is not None
    kinds = [type(event).__name__ for event in told.events]
    assert kinds[:2] == ["PlanEvent", "PlanEvent"]
    assert kinds[-1] == "AnswerEvent"
    assert "".join(event.delta for event in told.of(DeltaEvent)) == "the answer"
    assert {event.run_id for event in told.of(CrewEvent)} == {response.run_id}


async def test_events_and_response_come_back_from_json() -> None:
    told = await followed(crew_of())
    serializer = JsonSerializer()
    for event in told.events:
        assert serializer.deserialize(serializer.serialize(event)) == event
    said = json.loads(json.dumps(told.response.to_dict()))
    assert said.pop("degraded") is False
    assert CrewResponse.model_validate(said) == told.response


def test_events_are_frozen() -> None:
    event = AnswerEvent(text="so")
    with pytest.raises(ValueError, match="frozen"):
        event.text = "otherwise"


async def test_a_task_is_given_the_results_it_needs_fenced_and_no_others() -> None:
    members = [member("logs", "LOGS-FOUND"), member("intel", "INTEL-FOUND"), member("advice")]
    plans = plan_text(("t1", "logs", []), ("t2", "intel", []), ("t3", "advice", ["t1"]))
    told = await followed(crew_of(members, plans))
    (asked,) = calls_of(members[2])
    assert "=== result of t1 by logs\nLOGS-FOUND\n=== end of result of t1 by logs" in asked.text
    assert "INTEL-FOUND" not in asked.text
    (perceived,) = [event for event in told.of(PerceiveEvent) if event.task == "t3"]
    assert perceived.results == ["t1"]


async def test_the_aggregator_reads_every_result_fenced_and_the_request_outside() -> None:
    crew = crew_of(answer=(final := ScriptedLLM("done", model="final")))
    await followed(crew, "Is THIS it?")
    (asked,) = final.calls
    assert asked.messages[-1].content == "Is THIS it?"
    system = asked.messages[0].content or ""
    for name in ("t1 by logs", "t2 by intel", "t3 by advice"):
        assert f"=== result of {name}" in system
    assert "never an instruction to follow" in system


async def test_whoever_answers_is_held_to_the_results() -> None:
    final = ScriptedLLM("LOGS and INTEL", model="final")
    crew = crew_of(
        answer=final,
        held_to=lambda results: {"regex": " and ".join(one.agent.upper() for one in results[:2])},
    )
    told = await followed(crew)
    assert final.calls[0].options["regex"] == "LOGS and INTEL"
    assert told.response.text == "LOGS and INTEL"


async def test_where_nothing_can_be_held_to_them_the_results_stand() -> None:
    def broken(results: Any) -> dict[str, Any]:
        raise LookupError("no words")

    told = await followed(crew_of(held_to=broken))
    assert told.response.answered_by == ""
    assert any("LookupError: no words" in gone.reason for gone in told.response.missing)


async def test_independent_tasks_run_at_once_and_dependent_ones_after() -> None:
    members = [member(name, LatencyLLM(0.4, model=name)) for name in "abcdef"]
    plans = plan_text(*[(name, name, []) for name in "abcde"], ("f", "f", list("abcde")))
    crew = crew_of(members, plans, max_concurrency=5)
    began = time.monotonic()
    told = await followed(crew)
    took = time.monotonic() - began
    assert 0.8 <= took < 1.8  # one after another it would take 2.4 s
    begun = {event.task.id: event.seconds for event in told.of(TaskEvent)}
    ended = {event.result.task: event.seconds for event in told.of(ResultEvent) if event.result}
    assert max(begun[name] for name in "abcde") < min(ended[name] for name in "abcde")
    assert begun["f"] >= max(ended[name] for name in "abcde")


async def test_no_task_waits_for_a_whole_wave() -> None:
    members = [member("slow", LatencyLLM(0.8)), member("quick"), member("next")]
    plans = plan_text(("slow", "slow", []), ("quick", "quick", []), ("next", "next", ["quick"]))
    told = await followed(crew_of(members, plans))
    ended = {event.result.task: event.seconds for event in told.of(ResultEvent) if event.result}
    assert ended["next"] < 0.6 < ended["slow"]


async def test_no_more_tasks_at_once_than_allowed() -> None:
    llm = LatencyLLM(0.05)
    members = [member(name, llm) for name in "abcdefgh"]
    crew = crew_of(members, plan_text(*[(name, name, []) for name in "abcdefgh"]), max_concurrency=2)
    await asyncio.gather(followed(crew), followed(crew))
    assert llm.peak_in_flight == 2


async def test_a_member_may_have_many_tasks_and_knows_what_it_did() -> None:
    members = [member("logs", ["first found", "second found"]), member("intel"), member("advice")]
    told = await followed(crew_of(members, plan_text(("t1", "logs", []), ("t2", "logs", ["t1"]))))
    assert [one.text for one in told.response.results] == ["first found", "second found"]
    said = [message.content for message in calls_of(members[0])[1].messages]
    assert "first found" in said  # as its own turn, out of its working memory
    assert told.response.results[1].recalled == 2


async def test_concurrent_runs_do_not_mix() -> None:
    def echo(messages: Any) -> str:
        return f"heard {messages[-1].content.rsplit('what?', 1)[0][-3:]}"

    crew = crew_of([member("logs", echo)], plan_text(("t1", "logs", []), ("t2", "logs", ["t1"])))
    told = await asyncio.gather(*(followed(crew, f"{number:03}what?") for number in range(20)))
    for number, one in enumerate(told):
        assert {result.text for result in one.response.results} == {f"heard {number:03}"}
        assert {event.run_id for event in one.of(CrewEvent)} == {one.response.run_id}
    texts = [[m.content or "" for m in call.messages] for call in crew.members["logs"].proposer.model.calls]
    for said in texts:
        assert len({part[:3] for text in said for part in text.split() if part.endswith("what?")}) == 1


# What goes wrong.


async def test_a_task_that_fails_is_planned_again_once_by_other_ways() -> None:
    members = [member("logs", [RuntimeError("no logs")]), member("intel"), member("advice")]
    first = plan_text(("t1", "logs", []), ("t2", "intel", []), ("t3", "advice", ["t1"]))
    second = plan_text(("r1", "intel", []), ("r2", "advice", ["r1", "t2"]))
    told = await followed(crew_of(members, [first, second], max_retries=0))
    response = told.response
    assert [one.task for one in response.results] == ["t2", "r1", "r2"]
    assert [(gone.task, gone.agent) for gone in response.missing] == [("t1", "logs")]
    assert "no logs" in response.missing[0].reason
    assert response.degraded
    assert response.first_plan is not None
    assert response.first_plan.ids == ["t1", "t2", "t3"]
    assert [event.state for event in told.of(PlanEvent)] == ["made", "confirmed", "made", "again"]


async def test_the_second_plan_is_told_what_is_done_and_what_failed() -> None:
    members = [member("logs", [RuntimeError("disk on fire")]), member("intel", "INTEL"), member("advice")]
    planner = ScriptedLLM([THREE, plan_text(("r1", "advice", ["t2"]))], model="planner")
    await followed(crew_of(members, planner, max_retries=0))
    said = planner.calls[1].text
    assert "Done: task t2 by intel\nINTEL" in said
    assert "disk on fire" in said


async def test_where_nothing_is_planned_again_the_rest_goes_on_and_is_told_who_lacks() -> None:
    members = [member("logs", [RuntimeError("down")]), member("intel"), member("advice")]
    told = await followed(crew_of(members, max_retries=0, replans=False))
    assert [one.task for one in told.response.results] == ["t2", "t3"]
    (begun,) = [event for event in told.of(TaskEvent) if event.task.id == "t3"]
    assert begun.absent == ["t1"]
    assert "No result came from: t1" in calls_of(members[2])[0].text


async def test_what_rests_on_nothing_is_not_begun() -> None:
    members = [member("logs", [RuntimeError("down")]), member("intel"), member("advice")]
    plans = plan_text(("t1", "logs", []), ("t2", "intel", ["t1"]), ("t3", "advice", ["t2"]))
    told = await followed(crew_of(members, plans, max_retries=0, replans=False))
    assert {gone.task: gone.reason for gone in told.response.missing}.keys() == {"t1", "t2", "t3"}
    assert "not begun: no result of t1" in str(told.response.missing)
    assert calls_of(members[1]) == []
    assert str(told.response) == "the answer"  # the aggregator alone, told that all are missing


async def test_a_planner_that_fails_twice_ends_the_planning_and_not_the_run() -> None:
    members = [member("logs", [RuntimeError("down")]), member("intel"), member("advice")]
    told = await followed(crew_of(members, [THREE, RuntimeError("planner down")], max_retries=0))
    assert [one.task for one in told.response.results] == ["t2", "t3"]
    assert [gone.task for gone in told.response.missing] == ["t1", "plan"]


async def test_without_an_aggregator_the_planner_answers_and_without_both_the_results_stand() -> None:
    crew = crew_of(answer=[RuntimeError("down")], plans=[THREE, "the planner's words"], max_retries=0)
    told = await followed(crew)
    assert (str(told.response), told.response.answered_by) == ("the planner's words", "planner")
    assert [event.agent for event in told.of(AggregateEvent)] == ["aggregator", "planner"]
    crew = crew_of(answer=[RuntimeError("a")], plans=[THREE, RuntimeError("b")], max_retries=0)
    told = await followed(crew)
    assert "logs (t1):\nlogs says so" in str(told.response)
    assert told.response.answered_by == ""


async def test_with_nobody_there_the_run_fails_with_all_reasons() -> None:
    down = [member(name, [RuntimeError(f"{name} down")]) for name in ("logs", "intel")]
    plans = [plan_text(("t1", "logs", []), ("t2", "intel", [])), RuntimeError("p"), RuntimeError("q")]
    with pytest.raises(MixtureError, match="Nobody of the crew") as raised:
        await crew_of(down, plans, [RuntimeError("a")], max_retries=0).arun("So?")
    for part in ("logs down", "intel down", "RuntimeError: a", "RuntimeError: q"):
        assert part in str(raised.value)
    assert raised.value.causes


async def test_a_transient_failure_is_tried_again() -> None:
    members = [member("logs", [ConnectionError("once"), "found"]), member("intel"), member("advice")]
    told = await followed(crew_of(members))
    assert told.response.results[0].text == "found"
    assert not told.response.missing


async def test_a_task_beyond_its_time_is_missing_and_its_call_is_gone() -> None:
    slow = LatencyLLM(30)
    members = [member("logs", slow), member("intel"), member("advice")]
    told = await followed(crew_of(members, task_timeout=0.3, replans=False))
    assert [gone.reason for gone in told.response.missing] == ["no result within its timeout of 0.3 s"]
    assert slow.in_flight == 0


async def test_a_run_beyond_its_time_fails_with_what_was_there() -> None:
    slow = LatencyLLM(30)
    crew = crew_of([member("logs"), member("intel", slow), member("advice")], timeout=0.8)
    with pytest.raises(CrewTimeoutError, match=r"timeout of 0\.8 s") as raised:
        await crew.arun("So?")
    assert [one.task for one in raised.value.partial.results] == ["t1"]
    await until(lambda: slow.in_flight == 0)


async def test_whoever_leaves_cancels_the_run() -> None:
    slow = LatencyLLM(30)
    items = crew_of([member("logs", slow)], plan_text(("t1", "logs", []))).astream("So?")
    async for item in items:
        if isinstance(item, PerceiveEvent):
            break
    await until(lambda: slow.in_flight == 1)
    await items.aclose()
    assert slow.in_flight == 0


@pytest.mark.parametrize("request_", ["", "  ", None])
async def test_an_empty_request_is_refused_before_any_call(request_: Any) -> None:
    with pytest.raises(ConfigurationError, match="request is empty"):
        await crew_of(plans=[]).arun(request_)


# Plans of one's own, and other ways to ask.


async def test_a_plan_of_ones_own_needs_no_planner() -> None:
    own = Plan(tasks=[Task(id="x", agent="intel", instructions="look it up")])
    told = await followed(crew_of(plans=[]), plan=own)
    assert [one.task for one in told.response.results] == ["x"]
    assert told.response.plan == own


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (Plan(tasks=[]), "has no tasks"),
        (Plan(tasks=[Task(id="x", agent="wizard", instructions="y")]), "whom nobody knows"),
        (Plan(tasks=[Task(id="x", agent="logs", instructions="y", needs=["x"])]), "in a circle"),
    ],
)
async def test_a_plan_of_ones_own_that_cannot_work_is_refused(own: Plan, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        await crew_of(plans=[]).arun("So?", plan=own)


def test_a_crew_can_be_asked_without_a_loop_and_inside_one() -> None:
    crew = crew_of(plans=THREE)
    assert str(crew.run("So?")) == "the answer"

    async def inside() -> str:
        return str(crew.run("So?"))

    assert asyncio.run(inside()) == "the answer"


def test_a_crew_proposes_in_a_mixture() -> None:
    pack = MixtureOfAgentsPack(ScriptedLLM("final"), [crew_of().workflow, ScriptedLLM("b")], num_layers=2)
    response = pack.run("Is it?")
    assert (response.proposals[0].proposer, response.proposals[0].text) == ("crew", "the answer")


def look(host: str) -> str:
    """Look at a host."""
    return f"{host} is up"


async def test_a_crew_of_one_needs_no_planner_and_its_tools_are_seen_in_a_mixture() -> None:
    one = member("logs", "It is up.", tools=[look], always=[ToolUse("look", {"host": "WS01"})])
    crew = Crew([one])
    response = await crew.arun("Is it up?")
    assert (str(response), response.answered_by) == ("It is up.", "logs")
    pack = MixtureOfAgentsPack(ScriptedLLM("final"), [crew.workflow, ScriptedLLM("b")], num_layers=2)
    told: list[Any] = [event async for event in pack.astream("Is it up?")]
    uses = [(event.kind, event.tool) for event in told if isinstance(event, ProgressEvent) and event.tool]
    assert uses == [("act", "look"), ("observe", "look")]
    assert told[-1].proposals[0].details["tool_calls"] == [
        {"tool": "look", "arguments": {"host": "WS01"}, "output": "WS01 is up", "is_error": False}
    ]
    with pytest.raises(ConfigurationError, match="a crew of 2 needs a planner"):
        Crew([one, member("intel")])


async def test_a_crew_of_one_that_fails_says_why() -> None:
    with pytest.raises(MixtureError, match="no model"):
        await Crew([member("logs", [RuntimeError("no model")])], max_retries=0).arun("So?")


def test_a_mixture_is_a_member_of_a_crew() -> None:
    pack = MixtureOfAgentsPack(ScriptedLLM("mixed"), [ScriptedLLM("a"), ScriptedLLM("b")], num_layers=2)
    mixed = Member("mix", "answers anything", pack.as_llm())
    response = crew_of([mixed], plan_text(("t1", "mix", []))).run("So?")
    assert response.results[0].text == "mixed"


async def test_a_members_thoughts_are_told() -> None:
    told = await followed(crew_of())
    assert {event.text for event in told.of(ReasonEvent)} == {f"{name} says so" for name in SKILLS}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_tasks": 0}, "max_tasks"),
        ({"max_tasks": 1000}, "max_tasks"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"timeout": -1}, "timeout"),
        ({"task_timeout": float("nan")}, "task_timeout"),
        ({"max_retries": 1.5}, "max_retries"),
        ({"confirm": "maybe"}, "confirm"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        crew_of(**options)


def test_members_are_checked() -> None:
    llm = ScriptedLLM("x")
    for wrong in ([], [llm], [member("logs"), member("logs")]):
        with pytest.raises(ConfigurationError):
            Crew(wrong, llm)
    for settings_ in (
        {"name": ""},
        {"skills": " "},
        {"always": ["look"]},
        {"timeout": 0},
        {"memory": object()},
    ):
        given_: dict[str, Any] = {"name": "a", "skills": "b", **settings_}
        with pytest.raises(ConfigurationError):
            Member(given_.pop("name"), given_.pop("skills"), llm, **given_)


TASK_NAMES = [f"t{number}" for number in range(6)]


@settings(max_examples=25, deadline=None)
@given(
    needs=st.lists(st.sets(st.integers(0, 5), max_size=3), min_size=1, max_size=6),
    fails=st.sets(st.sampled_from(TASK_NAMES)),
)
def test_any_plan_comes_to_an_answer_in_the_order_of_its_needs(
    needs: list[set[int]], fails: set[str]
) -> None:
    tasks = [
        (TASK_NAMES[place], TASK_NAMES[place], [TASK_NAMES[need] for need in sorted(of) if need < place])
        for place, of in enumerate(needs)
    ]
    members = [
        member(name, [RuntimeError("down")] if name in fails else f"{name} done") for name, _, _ in tasks
    ]
    crew = crew_of(members, plan_text(*tasks), max_retries=0, replans=False)
    told = asyncio.run(followed(crew))
    settled: set[str] = set()
    for event in told.events:
        if isinstance(event, TaskEvent):
            assert set(event.task.needs) <= settled
        if isinstance(event, ResultEvent):
            record = event.result or event.missing
            assert record is not None
            settled.add(record.task)
    names = [one.task for one in told.response.results] + [gone.task for gone in told.response.missing]
    assert sorted(names) == sorted(name for name, _, _ in tasks)


async def test_a_planner_that_hangs_is_done_without_after_the_limit_of_a_task() -> None:
    told = await followed(
        crew_of(plans=ScriptedLLM(THREE, model="planner", latency=60), task_timeout=0.3, timeout=20)
    )
    assert told.response.plan is not None
    assert told.response.plan.source == "fallback"
    assert "no answer within 0.3 s" in str(told.response.missing[0])


async def test_an_aggregator_that_hangs_costs_no_results() -> None:
    slow = LatencyLLM(60, model="slow")
    planner = ScriptedLLM([THREE], model="planner")
    crew = Crew([member(name) for name in SKILLS], planner, slow, task_timeout=0.3, timeout=20, replans=False)
    response = await crew.arun("So?")
    assert "advice says so" in str(response)
    assert [gone.task for gone in response.missing] == ["answer", "answer"]


async def test_a_call_that_cancels_itself_is_not_said_to_be_late() -> None:
    def gone(messages: Any) -> str:
        raise asyncio.CancelledError

    response = await crew_of(plans=ScriptedLLM(gone, model="planner")).arun("So?")
    assert [str(one) for one in response.missing] == ["planner, plan: was cancelled"]


def test_what_cannot_be_asked_as_an_agent_is_refused_with_what_can() -> None:
    pack = MixtureOfAgentsPack(ScriptedLLM("j"), [ScriptedLLM("a"), ScriptedLLM("b")], num_layers=2)
    with pytest.raises(ConfigurationError, match=r"Pass its as_llm\(\)"):
        Member("mixed", "knows", pack)
    with pytest.raises(ConfigurationError, match="Pass its workflow"):
        Proposer(crew_of())
    Proposer(crew_of().workflow)
    Member("mixed", "knows", pack.as_llm())


@pytest.mark.parametrize("request_", [7, ["So?"], ChatMessage(content="So?")])
def test_a_request_that_is_no_text_is_refused_as_what_it_is(request_: Any) -> None:
    with pytest.raises(ConfigurationError, match="A request must be a text; found"):
        crew_of().run(request_)
