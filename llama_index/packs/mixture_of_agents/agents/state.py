"""What a crew's run has come to; steps change it only by putting another in its place. It knows no models.

`CrewState` stands in the workflow's store and serialises, so that a run that waits for a person can be put
away and taken up again. What only exists while the process does is `live_crew`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from pydantic import BaseModel, Field

from llama_index.packs.mixture_of_agents.agents.live_crew import LiveCrew
from llama_index.packs.mixture_of_agents.agents.plans import (
    Plan,
    Task,
    hopeless,
    ready,
    ready_without_all,
)
from llama_index.packs.mixture_of_agents.agents.results import (
    CrewResponse,
    Suspicion,
    TaskMissing,
    TaskResult,
)
from llama_index.packs.mixture_of_agents.results import Usage


class CrewState(BaseModel):
    """What a run has come to; all of it serialises.

    Attributes:
        run_id: The run's identity.
        request: What is asked.
        history: The conversation before it.
        plan: What is carried out.
        first_plan: The one before it.
        results: Of tasks, in the order they came in.
        missing: Tasks without a result, and calls that failed.
        begun: Tasks that were begun.
        warnings: What looked suspicious.
        spent: What calls used that belong to no task.
        plans_made: How many plans were made.
        asked: Whether someone is asked about the plan, and has not answered yet.
        sent_back: How many changed plans could not be carried out.
    """

    run_id: str = ""
    request: str = ""
    history: list[ChatMessage] = Field(default_factory=list)
    plan: Plan | None = None
    first_plan: Plan | None = None
    results: list[TaskResult] = Field(default_factory=list)
    missing: list[TaskMissing] = Field(default_factory=list)
    begun: list[str] = Field(default_factory=list)
    warnings: list[Suspicion] = Field(default_factory=list)
    spent: list[Usage] = Field(default_factory=list)
    plans_made: int = 0
    asked: bool = False
    sent_back: int = 0

    @property
    def conversation(self) -> list[ChatMessage]:
        """What was said before, with the request at its end."""
        return [*self.history, ChatMessage(role=MessageRole.USER, content=self.request)]

    @property
    def done(self) -> list[str]:
        """Tasks with a result."""
        return [result.task for result in self.results]

    @property
    def gone(self) -> list[str]:
        """Tasks that will have none."""
        return [missing.task for missing in self.missing]

    @property
    def in_work(self) -> bool:
        """Whether any task is being done."""
        return bool(set(self.begun) - set(self.done) - set(self.gone))

    @property
    def tasks(self) -> list[Task]:
        """The plan's tasks."""
        return self.plan.tasks if self.plan is not None else []

    def tasks_of(self, agent: str) -> int:
        """How many of the plan's tasks are an agent's."""
        return sum(task.agent == agent for task in self.tasks)

    @property
    def failed(self) -> list[TaskMissing]:
        """The plan's tasks without a result."""
        ids = {task.id for task in self.tasks}
        return [missing for missing in self.missing if missing.task in ids]

    def next_tasks(self) -> list[Task]:
        """Tasks that may begin: all they need is there."""
        return ready(self.plan, self.done, [*self.begun, *self.gone]) if self.plan is not None else []

    def next_without_all(self) -> list[Task]:
        """Tasks that wait for nothing any more and have a part of what they need."""
        if self.plan is None:
            return []
        return ready_without_all(self.plan, self.done, self.gone, self.begun)

    def without_hope(self) -> list[TaskMissing]:
        """The records of tasks of whose needs nothing will be there, and of those behind them."""
        if self.plan is None:
            return []
        found: list[TaskMissing] = []
        while new := hopeless(self.plan, [*self.gone, *(one.task for one in found)], self.begun):
            found += [
                TaskMissing(
                    task=task.id, agent=task.agent, reason=f"not begun: no result of {', '.join(task.needs)}"
                )
                for task in new
            ]
        return found

    def turn(self, replans: bool) -> Turn:
        """What is done next: tasks that may begin, a second plan, or the answer.

        Args:
            replans: Whether a second plan may be made for what failed.
        """
        tasks = self.next_tasks()
        if tasks or self.in_work:
            return Turn(begin=tasks)
        if self.failed and replans and self.plans_made < 2:
            return Turn(then="plan again")
        lost = self.without_hope()
        tasks = self.changed(missing=[*self.missing, *lost]).next_without_all()
        return Turn(begin=tasks, lost=lost, then=None if tasks else "answer")

    def taken(self, turn: Turn) -> CrewState:
        """This state once a turn is taken."""
        begun = [*self.begun, *(task.id for task in turn.begin)]
        return self.changed(begun=begun, missing=[*self.missing, *turn.lost])

    def settled(
        self, result: TaskResult | None, missing: TaskMissing | None, warnings: Sequence[Suspicion]
    ) -> CrewState:
        """This state with what became of a task."""
        return self.changed(
            results=[*self.results, *([] if result is None else [result])],
            missing=[*self.missing, *([] if missing is None else [missing])],
            warnings=[*self.warnings, *warnings],
        )

    def planned_again(self, plan: Plan) -> CrewState:
        """This state with a second plan, in which what is done stands first."""
        kept = [task for task in self.tasks if task.id in self.done]
        whole = plan.model_copy(update={"tasks": [*kept, *plan.tasks]})
        return self.changed(plan=whole, first_plan=self.plan)

    def changed(self, **changes: Any) -> CrewState:
        """This state with other values."""
        return self.model_copy(update=changes)

    def ordered_results(self) -> list[TaskResult]:
        """The results in the plan's order, whatever the order they came in."""
        order = {task.id: place for place, task in enumerate(self.tasks)}
        return sorted(self.results, key=lambda result: order.get(result.task, -1))

    def response(self, live: LiveCrew, **said: Any) -> CrewResponse:
        """What there is, as a response; `said` is the answer's part of it."""
        usages = [
            *self.spent,
            *(r.usage for r in self.results),
            *(m.usage for m in self.missing if _called(m)),
        ]
        return CrewResponse(
            **{
                "text": "",
                "plan": self.plan,
                "first_plan": self.first_plan,
                "results": self.ordered_results(),
                "missing": self.missing,
                "warnings": list(dict.fromkeys(self.warnings)),
                "notes": live.board.notes,
                "usage": Usage.total(usages),
                "latency_seconds": live.clock.elapsed(),
                "run_id": self.run_id,
                **said,
            }
        )


@dataclass(frozen=True)
class Turn:
    """What a run does next.

    Attributes:
        begin: Tasks that begin.
        lost: The records of tasks that never will.
        then: What is next where no task begins or is in work.
    """

    begin: Sequence[Task] = ()
    lost: Sequence[TaskMissing] = ()
    then: Literal["plan again", "answer"] | None = None


def _called(missing: TaskMissing) -> bool:
    """Whether anyone was asked: a task that was not begun used nothing; planner's calls are counted apart."""
    return missing.task not in ("plan", "answer") and not missing.reason.startswith("not begun")


def marks(state: CrewState) -> dict[str, str]:
    """How each task stands, for a drawing of the plan."""
    said = dict.fromkeys(state.begun, "in work")
    return {**said, **dict.fromkeys(state.done, "done"), **dict.fromkeys(state.gone, "missing")}


def results_of(names: Sequence[str], state: CrewState) -> list[TaskResult]:
    """The results of these tasks, in the order of the names."""
    by_task = {result.task: result for result in state.results}
    return [by_task[name] for name in names if name in by_task]
