"""Plans: what keeps one from being carried out, what may begin when, and how it is drawn."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.agents.plans import (
    Plan,
    Task,
    faults,
    hopeless,
    one_for_each,
    ready,
    ready_without_all,
)

AGENTS = ["logs", "intel", "advice"]


def plan(*tasks: tuple[str, str, list[str]]) -> Plan:
    return Plan(
        tasks=[
            Task(id=name, agent=agent, instructions=f"do {name}", needs=needs) for name, agent, needs in tasks
        ]
    )


DIAMOND = plan(("a", "logs", []), ("b", "intel", ["a"]), ("c", "logs", ["a"]), ("d", "advice", ["b", "c"]))


def test_a_sound_plan_has_no_faults() -> None:
    assert faults(DIAMOND, AGENTS, most=12) == []


def test_unknown_agents_needs_and_circles_are_named() -> None:
    wrong = plan(("a", "wizard", ["b"]), ("b", "logs", ["a"]), ("c", "logs", ["z"]))
    said = "; ".join(faults(wrong, AGENTS, most=12))
    assert "'wizard', whom nobody knows; there are: logs, intel, advice" in said
    assert "needs 'z', which is no task" in said
    assert "in a circle, or for those that do: a, b" in said


def test_a_task_that_needs_itself_is_a_circle() -> None:
    assert "circle" in faults(plan(("a", "logs", ["a"])), AGENTS, most=12)[0]


def test_no_tasks_and_a_thousand_are_refused() -> None:
    assert faults(Plan(tasks=[]), AGENTS, most=12) == ["the plan has no tasks"]
    many = plan(*[(f"t{n}", "logs", []) for n in range(1000)])
    assert faults(many, AGENTS, most=12) == ["the plan has 1000 tasks; at most 12 are carried out"]


def test_two_tasks_of_one_name_and_a_task_that_says_nothing_are_refused() -> None:
    twice = Plan(
        tasks=[Task(id="a", agent="logs", instructions="x"), Task(id="a", agent="logs", instructions=" ")]
    )
    said = faults(twice, AGENTS, most=12)
    assert "two tasks have the id 'a'" in said
    assert "task 'a' has no instructions" in said


def test_a_second_plan_may_need_what_is_done() -> None:
    second = plan(("r1", "logs", ["a"]))
    assert faults(second, AGENTS, most=12, known=["a"]) == []
    assert faults(second, AGENTS, most=12) != []


def test_tasks_begin_as_soon_as_all_they_need_is_there() -> None:
    def names(done: list[str], begun: list[str]) -> list[str]:
        return [task.id for task in ready(DIAMOND, done, begun)]

    assert names([], []) == ["a"]
    assert names(["a"], ["a"]) == ["b", "c"]
    assert names(["a", "b"], ["a", "b", "c"]) == []
    assert names(["a", "b", "c"], ["a", "b", "c"]) == ["d"]


def test_where_a_part_is_gone_a_task_may_begin_with_the_rest() -> None:
    done, gone, begun = ["a", "b"], ["c"], ["a", "b", "c"]
    assert [task.id for task in ready_without_all(DIAMOND, done, gone, begun)] == ["d"]
    assert hopeless(DIAMOND, gone, begun) == []


def test_where_all_is_gone_a_task_is_hopeless() -> None:
    assert [task.id for task in hopeless(DIAMOND, ["b", "c"], ["a", "b", "c"])] == ["d"]
    assert ready_without_all(DIAMOND, ["a"], ["b", "c"], ["a", "b", "c"]) == []


def test_without_a_plan_each_agent_has_a_task_and_it_is_marked() -> None:
    made = one_for_each("What now?", AGENTS, 2, "the planner is down")
    assert [(task.id, task.agent, task.needs) for task in made.tasks] == [
        ("t1", "logs", []),
        ("t2", "intel", []),
    ]
    assert made.source == "fallback"
    assert "the planner is down" in made.notes[0]
    assert "advice" in made.notes[1]
    assert faults(made, AGENTS, most=2) == []


def test_a_plan_is_drawn_as_a_tree_with_each_task_once() -> None:
    assert DIAMOND.as_text({"a": "done"}).splitlines() == [
        "Plan (given, 4 tasks)",
        "└─ [done] a logs: do a",
        "   ├─ b intel: do b",
        "   └─ c logs: do c",
        "      └─ d advice (needs b, c): do d",
    ]


def test_a_plan_with_a_circle_is_drawn_too() -> None:
    drawn = plan(("a", "logs", ["b"]), ("b", "logs", ["a"]), ("c", "intel", [])).as_text()
    assert "(in a circle) a logs" in drawn
    assert "└─ c intel" in drawn


def test_a_plan_is_drawn_as_mermaid_from_request_to_answer() -> None:
    drawn = DIAMOND.as_mermaid()
    assert drawn.startswith("flowchart TD")
    for arrow in ("request --> n1", "n1 --> n2", "n1 --> n3", "n2 --> n4", "n3 --> n4", "n4 --> answer"):
        assert f"  {arrow}\n" in f"{drawn}\n"
    assert drawn.count("--> answer") == 1


def test_what_a_planner_writes_can_neither_move_the_cursor_nor_end_a_label() -> None:
    wrong = Plan(tasks=[Task(id='x"]', agent="a<b>", instructions='\x1b[2J"]; click n1 "javascript:x"')])
    assert "\x1b" not in wrong.as_text()
    label = wrong.as_mermaid().split("n1[")[1].splitlines()[0]
    assert label.count('"') == 2
    assert "\x1b" not in label
    assert "<b>x#34;#93;</b> a#60;b#62;" in label


NAMES = [f"t{number}" for number in range(8)]
PLANS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=3, unique=True)),
    unique_by=lambda pair: pair[0],
    max_size=8,
).map(lambda pairs: plan(*[(name, "logs", needs) for name, needs in pairs]))


@settings(max_examples=200)
@given(PLANS, st.sets(st.sampled_from(NAMES)))
def test_a_plan_without_faults_comes_to_its_end_whatever_fails(made: Plan, fails: set[str]) -> None:
    if faults(made, AGENTS, most=12):
        return
    done: list[str] = []
    gone: list[str] = []
    for _ in range(20):
        begun = [*done, *gone]
        now = ready(made, done, begun) or ready_without_all(made, done, gone, begun)
        lost = hopeless(made, gone, begun)
        if not now and not lost:
            break
        for task in now:
            assert set(task.needs) <= {*done, *gone}
            (gone if task.id in fails else done).append(task.id)
        gone += [task.id for task in lost if task.id not in gone]
    assert sorted([*done, *gone]) == sorted(made.ids)
    assert set(done).isdisjoint(gone)


@settings(max_examples=100)
@given(PLANS)
def test_every_plan_can_be_drawn_and_comes_back_from_json(made: Plan) -> None:
    drawn = made.as_text()
    assert all(f"{task.id} logs" in drawn for task in made.tasks)
    assert made.as_mermaid().count('["<b>') == len(made.tasks)
    assert Plan.model_validate_json(made.model_dump_json()) == made
