"""Ten requests with scripted models: valid plans, dependencies kept, and concurrency that is real."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.planner_requests import (
    MOST,
    REQUESTS,
    SKILLS,
    Asked,
    Made,
    in_order,
    made,
    most_at_once,
    table_of_plans,
    table_of_times,
    timed,
)
from llama_index.packs.mixture_of_agents.agents import Plan, Task
from llama_index.packs.mixture_of_agents.agents.events import ResultEvent, TaskEvent
from llama_index.packs.mixture_of_agents.agents.results import TaskResult
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


def test_there_are_ten_requests() -> None:
    assert len({asked.request for asked in REQUESTS}) == 10


async def test_each_plan_is_valid_carried_out_in_order_and_as_much_as_may_be_at_once() -> None:
    measured = await asyncio.gather(*(timed(asked, 0.4) for asked in REQUESTS))
    assert all(one.valid and one.in_order and one.seconds >= one.ideal for one in measured)
    # How many of each plan have nothing to wait for, or wait for the same.
    assert [one.at_once for one in measured] == [1, 2, 2, 1, 2, 2, 4, 2, 2, 6]


def test_tasks_one_after_another_are_not_told_as_at_once() -> None:
    task = Task(id="a", agent="a", instructions="x")
    begun, ended = TaskEvent(task=task), ResultEvent(result=TaskResult(task="a", agent="a", text="x"))
    assert most_at_once([begun, ended, begun, ended]) == 1
    assert most_at_once([begun, begun, ended, ended]) == 2
    assert most_at_once([]) == 0


def test_a_task_that_began_too_early_is_seen() -> None:
    tasks = [Task(id=name, agent="a", instructions="x", needs=n) for name, n in (("a", []), ("b", ["a"]))]
    plan = Plan(tasks=tasks)
    begun = [TaskEvent(task=task) for task in tasks]
    ended = [ResultEvent(result=TaskResult(task=name, agent="a", text="x")) for name in "ab"]
    assert in_order(plan, [begun[0], ended[0], begun[1], ended[1]])
    assert not in_order(plan, [begun[0], begun[1], ended[0], ended[1]])


@pytest.mark.parametrize(
    ("script", "came", "tasks"),
    [
        ([REQUESTS[2].plan_text()], "at once", 3),
        (["I would ask the logs.", REQUESTS[2].plan_text()], "after repair", 3),
        (["I would ask the logs.", "Really."], "fell back", len(SKILLS)),
    ],
)
async def test_how_a_plan_came_is_told(script: list[str], came: str, tasks: int) -> None:
    one = await made(REQUESTS[2], ScriptedLLM(script, model="planner"))
    assert (one.came, len(one.plan.tasks), one.valid) == (came, tasks, True)
    assert bool(one.faults) == (came != "at once")


async def test_the_tables_tell_what_was_measured() -> None:
    asked = Asked("Who?", {"a": ("logs", [])})
    row = table_of_times([await timed(asked, 0.01)]).splitlines()[-1]
    assert row.startswith("| Who? | 1 | 1 | ")
    assert row.endswith(" | yes | yes |")
    plan = Plan(tasks=[Task(id="a", agent="logs", instructions="x")], source="repaired")
    text = table_of_plans([Made("Who?", plan, ["no plan could be read"], 2.0, True)])
    assert "| Who? | after repair | 1 | logs | 2.0 | yes |" in text
    assert text.endswith("Of 1: 0 at once, 1 after repair, 0 fell back.")
    assert max(len(asked.tasks) for asked in REQUESTS) <= MOST
