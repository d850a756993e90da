"""What a run does next, from what it has come to."""

from __future__ import annotations

from typing import Any

from llama_index.packs.mixture_of_agents.agents.plans import Plan, Task
from llama_index.packs.mixture_of_agents.agents.results import Suspicion, TaskMissing, TaskResult
from llama_index.packs.mixture_of_agents.agents.state import CrewState, Turn

PLAN = Plan(
    tasks=[
        Task(id="a", agent="logs", instructions="look"),
        Task(id="b", agent="intel", instructions="look"),
        Task(id="c", agent="advice", instructions="tell", needs=["a", "b"]),
    ]
)
DONE, OTHER = (TaskResult(task=name, agent="logs", text="found") for name in "ab")
GONE, LOST = (TaskMissing(task=name, agent="intel", reason="down") for name in "ba")


def state(**values: Any) -> CrewState:
    return CrewState(plan=PLAN, plans_made=1, **values)


def told(turn: Turn) -> tuple[list[str], list[str], str | None]:
    return [task.id for task in turn.begin], [gone.task for gone in turn.lost], turn.then


def test_what_needs_nothing_begins_and_what_needs_others_waits_for_them() -> None:
    first = state()
    assert told(first.turn(replans=True)) == (["a", "b"], [], None)
    working = first.taken(first.turn(replans=True))
    assert told(working.turn(replans=True)) == ([], [], None)
    one = working.settled(DONE, None, [])
    assert told(one.turn(replans=True)) == ([], [], None)
    both = one.settled(OTHER, None, [])
    assert told(both.turn(replans=True)) == (["c"], [], None)


def test_when_all_is_done_it_is_answered() -> None:
    last = TaskResult(task="c", agent="advice", text="isolate it")
    done = state(begun=["a", "b", "c"], results=[DONE, OTHER, last])
    assert told(done.turn(replans=True)) == ([], [], "answer")


def test_what_failed_is_planned_again_once_and_else_a_part_has_to_do() -> None:
    failed = state(begun=["a", "b"], results=[DONE]).settled(None, GONE, [Suspicion(where="x", form="y")])
    assert [gone.task for gone in failed.missing] == ["b"]
    assert len(failed.warnings) == 1
    assert told(failed.turn(replans=True)) == ([], [], "plan again")
    assert told(failed.turn(replans=False)) == (["c"], [], None)
    assert told(failed.changed(plans_made=2).turn(replans=True)) == (["c"], [], None)


def test_what_has_nothing_to_build_on_is_lost() -> None:
    failed = state(begun=["a", "b"], missing=[GONE, LOST])
    turn = failed.turn(replans=False)
    assert told(turn) == ([], ["c"], "answer")
    assert [gone.task for gone in failed.taken(turn).missing] == ["b", "a", "c"]


def test_a_second_plan_keeps_what_is_done() -> None:
    second = Plan(tasks=[Task(id="d", agent="intel", instructions="look again")])
    again = state(begun=["a", "b"], results=[DONE], missing=[GONE]).planned_again(second)
    assert again.first_plan == PLAN
    assert [task.id for task in again.tasks] == ["a", "d"]
