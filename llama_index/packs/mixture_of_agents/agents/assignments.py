"""A task that is handed out, with what whoever does it is given; and what became of it.

How it is done is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llama_index.packs.mixture_of_agents.agents.live_crew import LiveCrew
from llama_index.packs.mixture_of_agents.agents.members import Member
from llama_index.packs.mixture_of_agents.agents.plans import Task
from llama_index.packs.mixture_of_agents.agents.recollection import Recollection
from llama_index.packs.mixture_of_agents.agents.results import Suspicion, TaskMissing, TaskResult
from llama_index.packs.mixture_of_agents.agents.state import CrewState, results_of


@dataclass(frozen=True)
class Assignment:
    """A task, and what whoever does it is given.

    Attributes:
        task: The task.
        member: Who does it.
        request: What it is a part of.
        results: Of the tasks it needs.
        absent: Tasks it needs that have no result.
        recollection: What its member remembers.
    """

    task: Task
    member: Member
    request: str
    recollection: Recollection
    results: Sequence[TaskResult] = ()
    absent: Sequence[str] = ()


@dataclass(frozen=True)
class Done:
    """What became of a task, and what in it looks like orders to a model."""

    record: TaskResult | TaskMissing
    warnings: list[Suspicion] = field(default_factory=list)


def assignment_of(task: Task, member: Member, state: CrewState, live: LiveCrew) -> Assignment:
    """A task with what is there for it by now.

    Args:
        task: The task.
        member: Who does it.
        state: What the run has come to.
        live: Its live side, which keeps what members remember.
    """
    memory = live.memory_of(member, state.tasks_of(member.name))
    return Assignment(
        task=task,
        member=member,
        request=state.request,
        recollection=Recollection(member, memory, live.memory_lock),
        results=results_of(task.needs, state),
        absent=[need for need in task.needs if need not in state.done],
    )
