"""A plan: tasks, who does them, and which must be done before which.

Pure: it says what is wrong with a plan, what may be begun now, and how deep a task stands. It knows neither
who made the plan nor how tasks are done.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True)
RESERVED = ("plan", "answer")
"""What records call the planner's and the aggregator's calls."""

Source = Literal["planner", "repaired", "fallback", "given", "edited"]
"""Who a plan is from: the planner; the planner, asked again; nobody, so that each agent has one task; the
caller; the caller, who changed one that was shown."""


class Task(BaseModel):
    """A part of a request.

    Attributes:
        id: Its name in the plan.
        agent: Who does it.
        instructions: What is to be done.
        needs: The tasks whose results it is given.
    """

    model_config = _FROZEN

    id: str
    agent: str
    instructions: str
    needs: list[str] = Field(default_factory=list)


class Plan(BaseModel):
    """Tasks with dependencies.

    Attributes:
        tasks: In the planner's order.
        source: Who it is from.
        notes: What was mended in it, or why it is not the planner's.
    """

    model_config = _FROZEN

    tasks: list[Task]
    source: Source = "given"
    notes: list[str] = Field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The names of its tasks."""
        return [task.id for task in self.tasks]

    def task(self, name: str) -> Task:
        """The task of that name.

        Raises:
            KeyError: There is none.
        """
        for task in self.tasks:
            if task.id == name:
                return task
        raise KeyError(name)

    def levels(self) -> dict[str, int]:
        """How deep each task stands: 1 where it needs none, else one more than the deepest it needs.

        Tasks of a cycle, and those behind one, are left out.
        """
        levels: dict[str, int] = {}
        known = set(self.ids)
        for _ in self.tasks:
            for task in self.tasks:
                needs = [need for need in task.needs if need in known]
                if task.id not in levels and all(need in levels for need in needs):
                    levels[task.id] = 1 + max((levels[need] for need in needs), default=0)
        return levels

    def as_text(self, marks: Mapping[str, str] | None = None) -> str:
        """The plan as a tree, for a terminal; see `drawing`.

        Args:
            marks: What stands before a task, by its name, "done" for instance.
        """
        # Not at the top: drawing draws plans.
        from llama_index.packs.mixture_of_agents.agents.drawing import as_text

        return as_text(self, marks or {})

    def as_mermaid(self) -> str:
        """The plan as a Mermaid flowchart."""
        from llama_index.packs.mixture_of_agents.agents.drawing import as_mermaid

        return as_mermaid(self)

    def _repr_markdown_(self) -> str:
        return f"```mermaid\n{self.as_mermaid()}\n```"


def faults(plan: Plan, agents: Collection[str], most: int, known: Collection[str] = ()) -> list[str]:
    """What keeps a plan from being carried out, in words; empty for nothing.

    Args:
        plan: The plan.
        agents: The names of those who can be given tasks.
        most: Tasks it may have.
        known: Tasks outside the plan that it may need: those done already.
    """
    if not plan.tasks:
        return ["the plan has no tasks"]
    if len(plan.tasks) > most:
        return [f"the plan has {len(plan.tasks)} tasks; at most {most} are carried out"]
    found = [f"two tasks have the id {name!r}" for name in _twice(plan.ids)]
    there = {*plan.ids, *known}
    for task in plan.tasks:
        found += _task_faults(task, agents, there)
    return [*found, *_cycle(plan)]


def _task_faults(task: Task, agents: Collection[str], there: Collection[str]) -> list[str]:
    found = []
    if task.agent not in agents:
        listed = ", ".join(agents)
        found.append(f"task {task.id!r} is for {task.agent!r}, whom nobody knows; there are: {listed}")
    if not task.id.strip():
        found.append(f"a task of {task.agent!r} has no id")
    if task.id in RESERVED:
        found.append(f"task {task.id!r} needs another id: records call a call of the crew's own so")
    if not task.instructions.strip():
        found.append(f"task {task.id!r} has no instructions")
    found += [
        f"task {task.id!r} needs {need!r}, which is no task" for need in task.needs if need not in there
    ]
    return found


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _cycle(plan: Plan) -> list[str]:
    left = [name for name in plan.ids if name not in plan.levels()]
    if not left:
        return []
    return [f"these tasks wait for each other in a circle, or for those that do: {', '.join(left)}"]


def ready(plan: Plan, done: Collection[str], begun: Collection[str]) -> list[Task]:
    """Tasks that have all they need and have not begun.

    Args:
        plan: The plan.
        done: Tasks with a result.
        begun: Tasks that were begun, whatever became of them.
    """
    return [task for task in plan.tasks if task.id not in begun and set(task.needs) <= set(done)]


def ready_without_all(
    plan: Plan, done: Collection[str], gone: Collection[str], begun: Collection[str]
) -> list[Task]:
    """Tasks that wait for nothing any more and have some of what they need, not all.

    Args:
        plan: The plan.
        done: Tasks with a result.
        gone: Tasks that will have none.
        begun: Tasks that were begun.
    """
    settled = {*done, *gone}
    waiting = [task for task in plan.tasks if task.id not in begun and task.id not in gone]
    return [task for task in waiting if set(task.needs) <= settled and set(task.needs) & set(done)]


def hopeless(plan: Plan, gone: Collection[str], begun: Collection[str]) -> list[Task]:
    """Tasks that need something, and of that nothing will ever be there."""
    waiting = [task for task in plan.tasks if task.id not in begun and task.id not in gone]
    return [task for task in waiting if task.needs and set(task.needs) <= set(gone)]


def one_for_each(request: str, agents: Iterable[str], most: int, reason: str) -> Plan:
    """A plan for when there is none: each agent does what it can, by itself.

    Args:
        request: What is asked.
        agents: The names of all agents.
        most: Tasks a plan may have.
        reason: Why there is no plan of the planner's.
    """
    listed = list(agents)
    notes = [f"no plan could be made, so each agent has one task: {reason}"]
    if len(listed) > most:
        notes.append(f"left out, because a plan has at most {most} tasks: {', '.join(listed[most:])}")
    tasks = [
        Task(id=f"t{number}", agent=name, instructions=f"Do your part of this request: {request}")
        for number, name in enumerate(listed[:most], 1)
    ]
    return Plan(tasks=tasks, source="fallback", notes=notes)
