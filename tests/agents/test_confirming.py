"""A plan is seen before it runs: confirmed, changed, or rejected, by a function or by events."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest
from workflows import Context

from llama_index.packs.mixture_of_agents import ConfigurationError
from llama_index.packs.mixture_of_agents.agents import Crew, CrewResponse, Plan, Task
from llama_index.packs.mixture_of_agents.agents.events import PlanDecisionEvent, PlanQuestionEvent
from llama_index.packs.mixture_of_agents.errors import PlanRejectedError
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.agents.crews import THREE, crew_of, followed, member, plan_text, put_away


def without_last(plan: Plan) -> Plan:
    return plan.model_copy(update={"tasks": plan.tasks[:-1]})


async def test_a_function_is_shown_the_plan_and_may_let_it_pass() -> None:
    shown: list[Plan] = []
    told = await followed(crew_of(confirm=shown.append))
    assert [plan.ids for plan in shown] == [["t1", "t2", "t3"]]
    assert told.response.plan == shown[0]


async def test_a_function_may_change_the_plan() -> None:
    told = await followed(crew_of(confirm=without_last))
    assert [one.task for one in told.response.results] == ["t1", "t2"]
    assert told.response.plan is not None
    assert told.response.plan.source == "edited"


async def test_an_async_function_may_reject_the_plan_and_nothing_is_done() -> None:
    async def no(plan: Plan) -> bool:
        return False

    crew = crew_of(confirm=no)
    with pytest.raises(PlanRejectedError):
        await crew.arun("So?")
    assert all(one.proposer.model.calls == [] for one in crew.members.values())


async def test_a_change_that_cannot_work_is_refused_with_its_faults() -> None:
    def wrong(plan: Plan) -> Plan:
        return Plan(tasks=[Task(id="a", agent="wizard", instructions="x")])

    with pytest.raises(ConfigurationError, match="whom nobody knows"):
        await crew_of(confirm=wrong).arun("So?")


async def test_a_function_that_blocks_does_not_block_the_loop() -> None:
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.02)

    beating = asyncio.ensure_future(beat())
    await crew_of(confirm=lambda plan: time.sleep(0.4)).arun("So?")
    beating.cancel()
    assert max(b - a for a, b in itertools.pairwise(beats)) < 0.35


async def test_a_second_plan_is_shown_too() -> None:
    shown: list[list[str]] = []
    members = [member("logs", [RuntimeError("down")]), member("intel"), member("advice")]
    plans = [THREE, plan_text(("r1", "advice", ["t2"]))]
    await crew_of(members, plans, max_retries=0, confirm=lambda plan: shown.append(plan.ids)).arun("So?")
    assert shown == [["t1", "t2", "t3"], ["t2", "r1"]]


async def test_the_time_a_person_takes_does_not_count() -> None:
    response = await crew_of(confirm=lambda plan: time.sleep(0.6), timeout=0.5).arun("So?")
    assert response.latency_seconds < 0.5


async def decided(crew: Crew, *decisions: PlanDecisionEvent) -> tuple[CrewResponse, list[PlanQuestionEvent]]:
    handler = crew.workflow.run(request="So?")
    left, asked = list(decisions), []
    async for event in handler.stream_events():
        if isinstance(event, PlanQuestionEvent):
            asked.append(event)
            assert handler.ctx is not None
            handler.ctx.send_event(left.pop(0))
    response: CrewResponse = await handler
    return response, asked


async def test_an_event_asks_and_an_event_answers() -> None:
    response, (asked,) = await decided(crew_of(confirm="events"), PlanDecisionEvent())
    assert asked.plan == response.plan
    assert "t3 advice (needs t1, t2)" in asked.drawn
    assert str(response) == "the answer"


async def test_an_event_may_change_the_plan_and_is_asked_again_while_that_has_faults() -> None:
    wrong = Plan(tasks=[Task(id="a", agent="wizard", instructions="x")])
    right = Plan(tasks=[Task(id="a", agent="intel", instructions="x")])
    response, asked = await decided(
        crew_of(confirm="events"), PlanDecisionEvent(plan=wrong), PlanDecisionEvent(plan=right)
    )
    assert [bool(one.faults) for one in asked] == [False, True]
    assert [one.agent for one in response.results] == ["intel"]
    assert response.plan is not None
    assert response.plan.source == "edited"


async def test_an_event_may_reject_the_plan() -> None:
    with pytest.raises(PlanRejectedError, match="too dear"):
        await decided(crew_of(confirm="events"), PlanDecisionEvent(approved=False, reason="too dear"))


async def test_a_run_that_waits_for_a_person_can_be_put_away_and_taken_up_again() -> None:
    crew = crew_of(plans=ScriptedLLM([THREE], model="planner"), confirm="events")
    kept = await put_away(crew)
    ctx: Context[Any] = Context.from_dict(crew.workflow, kept)
    again = crew.workflow.run(ctx=ctx)
    assert again.ctx is not None
    again.ctx.send_event(PlanDecisionEvent())
    response: Any = await again
    assert [one.task for one in response.results] == ["t1", "t2", "t3"]


async def test_events_need_someone_to_answer_them() -> None:
    with pytest.raises(ConfigurationError, match="needs someone to answer"):
        await crew_of(confirm="events").arun("So?")


ONE = Plan(tasks=[Task(id="z", agent="advice", instructions="x")])


@pytest.mark.parametrize(
    "late",
    [PlanDecisionEvent(), PlanDecisionEvent(plan=ONE), PlanDecisionEvent(approved=False)],
    ids=range(3),
)
async def test_the_first_answer_counts_and_a_later_one_changes_nothing(late: PlanDecisionEvent) -> None:
    handler = crew_of(confirm="events").workflow.run(request="So?")
    async for event in handler.stream_events():
        if isinstance(event, PlanQuestionEvent):
            assert handler.ctx is not None
            handler.ctx.send_event(PlanDecisionEvent())
            handler.ctx.send_event(late)
    response: CrewResponse = await handler
    assert [one.task for one in response.results] == ["t1", "t2", "t3"]


async def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    handler = crew_of().workflow.run(request="So?")
    assert handler.ctx is not None
    handler.ctx.send_event(PlanDecisionEvent(plan=ONE))
    response: CrewResponse = await handler
    assert [one.task for one in response.results] == ["t1", "t2", "t3"]


async def test_a_run_that_is_taken_up_again_still_waits_for_its_person() -> None:
    crew = crew_of(plans=ScriptedLLM([THREE], model="planner"), confirm="events", timeout=0.5)
    kept = await put_away(crew)
    again = crew.workflow.run(ctx=Context.from_dict(crew.workflow, kept))
    await asyncio.sleep(1.0)
    assert again.ctx is not None
    again.ctx.send_event(PlanDecisionEvent())
    response: Any = await again
    assert len(response.results) == 3


def failing_once() -> list[Any]:
    return [member("logs", [RuntimeError("down"), "now it is up"]), member("intel"), member("advice")]


SECOND = [
    plan_text(("a", "intel", []), ("b", "advice", []), ("c", "logs", [])),
    plan_text(("d", "intel", []), ("e", "advice", []), ("f", "intel", [])),
]


async def test_what_is_done_is_no_task_of_a_second_plan_to_be_counted() -> None:
    def reworded(plan: Plan) -> Plan:
        last = plan.tasks[-1].model_copy(update={"instructions": "in other words"})
        return plan.model_copy(update={"tasks": [*plan.tasks[:-1], last]})

    crew = crew_of(failing_once(), plans=SECOND, confirm=reworded, max_tasks=3, max_retries=0)
    response = await crew.arun("So?")
    assert {one.task for one in response.results} == {"a", "b", "d", "e", "f"}


async def test_a_changed_plan_that_repeats_a_failed_task_is_sent_back() -> None:
    def again(plan: Plan) -> Plan:
        if plan.ids[-1] != "f":
            return plan
        return plan.model_copy(update={"tasks": [*plan.tasks, Task(id="c", agent="logs", instructions="x")]})

    with pytest.raises(ConfigurationError, match="'c' failed before"):
        await crew_of(failing_once(), plans=SECOND, confirm=again, max_retries=0).arun("So?")


@pytest.mark.parametrize("name", ["plan", "answer", " "])
async def test_a_plan_of_ones_own_has_names_that_records_can_tell_apart(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"id"):
        await crew_of().arun("So?", plan=Plan(tasks=[Task(id=name, agent="logs", instructions="x")]))


async def test_a_program_that_sends_a_wrong_plan_for_ever_is_answered_in_the_end() -> None:
    handler = crew_of(confirm="events").workflow.run(request="So?")
    async for event in handler.stream_events():
        if isinstance(event, PlanQuestionEvent):
            assert handler.ctx is not None
            handler.ctx.send_event(PlanDecisionEvent(plan=Plan(tasks=[])))
    with pytest.raises(ConfigurationError, match="has no tasks"):
        await handler
