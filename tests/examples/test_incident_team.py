"""The crew of an incident: whatever is planned, all three look, and nobody says what was not found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from examples.incident_response import run, team
from examples.incident_response.team import ADVICE, INTELLIGENCE, TRIAGE, complete, denies, simple
from llama_index.packs.mixture_of_agents.agents import Plan, Task
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.examples.incident_crews import bundle, wording


def plan(*tasks: tuple[str, str, list[str]]) -> Plan:
    return Plan(tasks=[Task(id=name, agent=agent, instructions="x", needs=n) for name, agent, n in tasks])


def test_a_plan_that_has_everyone_stays_as_it_is() -> None:
    given = plan(("a", TRIAGE, []), ("b", INTELLIGENCE, []), ("c", ADVICE, ["a"]))
    assert complete(given) is given
    assert simple(given).tasks == given.tasks


def test_who_was_left_out_has_a_task_and_the_adviser_builds_on_the_others() -> None:
    made = complete(plan(("a", TRIAGE, []), (ADVICE, TRIAGE, [])))
    assert [(task.id, task.agent, task.needs) for task in made.tasks[2:]] == [
        (INTELLIGENCE, INTELLIGENCE, []),
        (f"{ADVICE}-2", ADVICE, ["a", ADVICE, INTELLIGENCE]),
    ]
    assert made.notes == [
        f"the planner left out {name}; it has a task of its own" for name in (INTELLIGENCE, ADVICE)
    ]


def test_a_small_planners_repetitions_are_one_task() -> None:
    made = simple(plan(("a", TRIAGE, []), ("b", TRIAGE, ["a"]), ("c", ADVICE, ["a", "b"])))
    assert [(task.id, task.agent, task.needs) for task in made.tasks] == [
        ("a", TRIAGE, []),
        ("c", ADVICE, ["a"]),
        (INTELLIGENCE, INTELLIGENCE, []),
    ]


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("There is no lateral movement.", True),
        ("This isn't lateral movement", True),
        ("It was not, in fact, lateral movement.", True),
        ("This is lateral movement. It is not over.", False),
        ("No doubt: WS-1 was used. There was lateral movement.", False),
    ],
)
def test_what_denies_a_finding_is_told_from_what_does_not(text: str, denied: bool) -> None:
    assert bool(denies(text, ["This is lateral movement: A to B"])) is denied
    assert denies(text, ["No lateral movement in 9 events."]) == ""


@pytest.mark.parametrize("planned", ["I do not know.", '{"tasks": []}', "[]", "{"])
async def test_a_planner_that_plans_nothing_keeps_nobody_from_looking(tmp_path: Path, planned: str) -> None:
    tools = bundle(tmp_path, 41)
    crew = team.crew(tools, wording(), small=True, planner=ScriptedLLM(planned, model="planner"))
    response = await run.look_into(crew, "What is it?", show=False)
    assert {result.agent for result in response.results} == {TRIAGE, INTELLIGENCE, ADVICE}
    assert {"find_movement", "match_indicators", "containment_steps"} <= set(tools.used)
    assert response.plan is not None
    assert response.plan.source == "fallback"


async def test_a_model_that_makes_up_a_host_is_not_heard(tmp_path: Path) -> None:
    def invents(messages: Any) -> str:
        text = wording().chat(messages).message.content or ""
        return text if text.startswith('{"tasks"') else f"{text}\nThen they took WS-9999."

    tools = bundle(tmp_path, 42)
    crew = team.crew(tools, ScriptedLLM(invents, model="inventor"), small=True)
    response = await run.look_into(crew, "What is it?", show=False)
    assert "WS-9999" not in response.text
    assert "This is lateral movement" in response.text
    assert "it names WS-9999" in response.results[0].cut


async def test_someone_elses_plan_is_carried_out_instead(tmp_path: Path) -> None:
    tools = bundle(tmp_path, 43)
    mine = plan(("only", TRIAGE, []))
    crew = team.crew(tools, wording(), small=True, confirm=lambda shown: mine)
    response = await run.look_into(crew, "What is it?", show=False)
    assert [result.task for result in response.results] == ["only"]
