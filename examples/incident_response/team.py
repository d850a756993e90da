"""The crew that looks into an incident: who is in it, and which tools are used before anyone says a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from examples.incident_response import wording
from examples.incident_response.tools import IncidentTools
from llama_index.packs.mixture_of_agents import Proposer
from llama_index.packs.mixture_of_agents.agents import Crew, Member, Plan, Task
from llama_index.packs.mixture_of_agents.agents.grounding import grounded
from llama_index.packs.mixture_of_agents.agents.tools.typed import typed_tool

TRIAGE, INTELLIGENCE, ADVICE = "log-triage", "threat-intelligence", "containment-adviser"
_TASKS = {
    TRIAGE: "Find out from the logs whether someone moved between hosts, from where to where and as whom.",
    INTELLIGENCE: "Find out which known threats the incident's indicators belong to.",
    ADVICE: "Say what to do now, in order of urgency.",
}


def members(tools: IncidentTools, llm: Any, *, small: bool) -> list[Member]:
    """Three specialists on one model.

    Args:
        tools: What they look with.
        llm: The model.
        small: It only words what the tools found, held to it (`wording`); another may call further tools by
            itself, and say what it wants.
    """

    def member(name: str, skills: str, mine: Any, always: list[str], role: str) -> Member:
        model = Proposer(llm, temperature=0.0, seed=1) if small else llm
        return Member(
            name,
            skills,
            model,
            tools=[typed_tool(tool) for tool in mine],
            always=always,
            chooses=not small,
            role=role,
            check=grounded,
            held_to=wording.held_to(tools) if small else None,
            material_characters=700 if small else 24_000,
        )

    return [
        member(
            TRIAGE,
            "reads Windows and Sysmon event logs and finds lateral movement",
            tools.triage(),
            ["find_movement", "find_signs"],
            "Answer whether it is lateral movement, then the steps in order, with their log lines.",
        ),
        member(
            INTELLIGENCE,
            "knows threats by their addresses, domains and file hashes",
            tools.intelligence(),
            ["match_indicators"],
            "Name the threat, and what in the incident belongs to it.",
        ),
        member(
            ADVICE,
            "says how to contain an incident: hosts to isolate, accounts to disable",
            tools.advice(),
            ["containment_steps"],
            "Give the steps in order, each in one sentence.",
        ),
    ]


def crew(tools: IncidentTools, llm: Any, *, small: bool, planner: Any = None, **options: Any) -> Crew:
    """The crew.

    Args:
        tools: What its members look with.
        llm: The model of everyone.
        small: As for `members`.
        planner: Another model to plan.
        **options: As for `Crew`.
    """
    plans = planner or (Proposer(llm, max_tokens=320, temperature=0.0, seed=1) if small else llm)
    made = Crew(
        members(tools, llm, small=small),
        plans,
        None if small else llm,
        name="incident",
        confirm=_both(simple if small else complete, options.pop("confirm", None)),
        check=lambda text, sources: grounded(text, sources) or denies(text, sources),
        held_to=wording.answer_held_to(tools) if small else None,
        **{
            "max_tasks": 4 if small else 6,
            "max_concurrency": 3,
            "task_timeout": None,
            "timeout": None,
            "material_characters": 1_200 if small else 40_000,
            **options,
        },
    )
    return made


def denies(text: str, sources: Sequence[str]) -> str:
    """Why an answer cannot stand that denies what the tools found; empty where it does not."""
    found = any("This is lateral movement" in source for source in sources)
    return "it denies lateral movement, which was found" if found and wording.denies(text) else ""


def complete(plan: Plan) -> Plan:
    """The plan with a task for every specialist it left out: an incident needs all three.

    The adviser builds on what the others found.
    """
    tasks, notes = list(plan.tasks), list(plan.notes)
    for agent, instructions in _TASKS.items():
        if any(task.agent == agent for task in tasks):
            continue
        needs = [task.id for task in tasks if task.agent != ADVICE] if agent == ADVICE else []
        tasks.append(Task(id=_free(agent, tasks), agent=agent, instructions=instructions, needs=needs))
        notes.append(f"the planner left out {agent}; it has a task of its own")
    return plan.model_copy(update={"tasks": tasks, "notes": notes}) if notes != plan.notes else plan


def simple(plan: Plan) -> Plan:
    """The complete plan with one task for each specialist: a small planner says the same several times."""
    first = {task.agent: task for task in reversed(plan.tasks)}
    tasks = [task for task in plan.tasks if first[task.agent] is task]
    kept = {task.id for task in tasks}
    tasks = [task.model_copy(update={"needs": [n for n in task.needs if n in kept]}) for task in tasks]
    return complete(plan.model_copy(update={"tasks": tasks}))


def _free(wanted: str, tasks: list[Task]) -> str:
    taken = {task.id for task in tasks}
    return next(name for name in (wanted, *(f"{wanted}-{n}" for n in range(2, 99))) if name not in taken)


def _both(first: Any, second: Any) -> Any:
    """Ask the second about what the first made of a plan."""

    def confirm(plan: Plan) -> Any:
        made = first(plan)
        said = None if second is None else second(made)
        return made if said is None or said is True else said

    return confirm
