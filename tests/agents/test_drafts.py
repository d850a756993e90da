"""What planners write is read however they write it, and mended where it is clear what was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.agents.drafts import (
    DraftPlan,
    mended,
    nearest_agent,
    shape_to_ask_for,
)
from llama_index.packs.mixture_of_agents.agents.plans import Plan, faults
from llama_index.packs.mixture_of_agents.answers.shapes import shape_in_text

SKILLS = {
    "log-triage": "reads Windows and Sysmon event logs",
    "threat-intel": "knows indicators of compromise: addresses, hashes, domains",
    "adviser": "advises on containment",
}


def read(text: str) -> Plan:
    draft = shape_in_text(text, DraftPlan)
    assert draft is not None
    return mended(draft, SKILLS, {})


def task(**fields: Any) -> dict[str, Any]:
    return {"id": "t1", "agent": "log-triage", "instructions": "look", "needs": [], **fields}


@pytest.mark.parametrize(
    "text",
    [
        '{"tasks": [{"id": "t1", "agent": "log-triage", "instructions": "look", "needs": []}]}',
        'Here:\n```json\n[{"id": "t1", "agent": "log-triage", "task": "look", "depends_on": null}]\n```',
        '{"plan": {"tasks": [{"ID": "t1", "Agent": "log-triage", "Instructions": "look",}]}}',
        "{'tasks': [{'id': 't1', 'assigned_to': 'log-triage', 'description': 'look', 'dependencies': []}]}",
        '<think>hm</think>{"tasks": [{"id": "t1", "agent": "log-triage", "task": "look", "needs": "none"}',
    ],
)
def test_a_plan_is_read_in_many_hands(text: str) -> None:
    (only,) = read(text).tasks
    assert (only.id, only.agent, only.instructions, only.needs) == ("t1", "log-triage", "look", [])


def test_numbers_and_texts_of_needs_are_names() -> None:
    said = [task(id=1), task(id=2, needs=1), task(id=3, needs="1, 2"), task(id=4, needs=[{"id": 3}])]
    assert [one.needs for one in read(json.dumps({"tasks": said})).tasks] == [[], ["1"], ["1", "2"], ["3"]]


def test_an_agents_name_stands_for_its_only_task() -> None:
    said = [task(), task(id="t2", agent="adviser", needs=["log-triage"])]
    assert read(json.dumps(said)).tasks[1].needs == ["t1"]


def test_needs_that_are_nowhere_are_dropped_and_that_is_said() -> None:
    plan = read(json.dumps([task(needs=["t9", "t1"])]))
    assert plan.tasks[0].needs == []
    assert "needed 't9', which is no task" in plan.notes[0]
    assert "needed 't1', which is itself" in plan.notes[1]


def test_equal_ids_are_told_apart() -> None:
    plan = read(json.dumps([task(), task(agent="adviser"), task(id="")]))
    assert plan.ids == ["t1", "t1-2", "t3"]
    assert faults(plan, SKILLS, most=12) == []


@pytest.mark.parametrize(
    ("wanted", "instructions", "meant"),
    [
        ("Log Triage", "", "log-triage"),
        ("log_triage_agent", "", "log-triage"),
        ("threat-intelligence", "", "threat-intel"),
        ("the one who reads Sysmon logs", "", "log-triage"),
        ("agent 7", "Look up the hashes among known indicators", "threat-intel"),
        ("wizard", "cast a spell", None),
    ],
)
def test_the_nearest_agent_is_the_one_that_is_meant(
    wanted: str, instructions: str, meant: str | None
) -> None:
    assert nearest_agent(wanted, instructions, SKILLS) == meant


def test_an_agent_by_another_name_is_said_and_one_nobody_knows_is_left_as_a_fault() -> None:
    plan = read(
        json.dumps([task(agent="threat intelligence"), task(id="t2", agent="wizard", instructions="?")])
    )
    assert [one.agent for one in plan.tasks] == ["threat-intel", "wizard"]
    assert "was for 'threat intelligence'" in plan.notes[0]
    assert "whom nobody knows" in faults(plan, SKILLS, most=12)[0]


def test_a_second_plan_uses_no_name_again_and_repeats_nothing() -> None:
    draft = DraftPlan.model_validate(
        {
            "tasks": [
                task(),
                task(id="t2", agent="adviser"),
                task(id="t3", agent="adviser", needs=["t1", "t2"]),
            ]
        }
    )
    plan = mended(draft, SKILLS, {"t1": "log-triage"}, gone=["t2"])
    assert plan.ids == ["t2-2", "t3"]
    assert plan.tasks[1].needs == ["t1", "t2-2"]
    assert "done already" in plan.notes[0]


def test_records_names_are_not_given_to_tasks() -> None:
    assert read(json.dumps([task(id="plan"), task(id="answer", needs=["plan"])])).ids == [
        "plan-2",
        "answer-2",
    ]


def test_instructions_that_go_on_for_ever_are_cut() -> None:
    assert len(read(json.dumps([task(instructions="x" * 40_000)])).tasks[0].instructions) == 4_000


def test_the_shape_asked_for_names_the_agents_there_are() -> None:
    schema = shape_to_ask_for(list(SKILLS), 5).model_json_schema()
    planned = schema["$defs"]["PlannedTask"]["properties"]
    assert planned["agent"]["enum"] == list(SKILLS)
    assert "enum" not in planned["id"]
    exact = shape_to_ask_for(list(SKILLS), 5, exact=True).model_json_schema()
    assert exact["properties"]["tasks"]["maxItems"] == 5
    assert exact["$defs"]["PlannedTask"]["properties"]["id"]["enum"] == ["t1", "t2", "t3", "t4", "t5"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "agent", "instructions", "needs", "tasks", "x"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.lists(JSON, max_size=5))
def test_whatever_is_written_is_mended_or_has_faults_that_are_told(written: list[Any]) -> None:
    draft = shape_in_text(json.dumps({"tasks": written}), DraftPlan)
    if draft is None:
        return
    plan = mended(draft, SKILLS, {})
    assert len(set(plan.ids)) == len(plan.ids)
    assert all(need in plan.ids for one in plan.tasks for need in one.needs)
    for fault in faults(plan, SKILLS, most=12):
        assert "whom nobody knows" in fault or "circle" in fault or "at most" in fault or "no tasks" in fault
