"""A crew's run: its state, which is data, and its live side, which is not.

`CrewState` stands in the workflow's store and serialises, so that a run that waits for a person can be put
away and taken up again. `LiveCrew` is what only exists while the process does: the clock, the deadline, the
board. Steps find it through a context variable, so concurrent runs never meet. Neither knows models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel, Field

from llama_index.packs.mixture_of_agents.agents.board import Board
from llama_index.packs.mixture_of_agents.agents.members import Member
from llama_index.packs.mixture_of_agents.agents.memory import RunMemory
from llama_index.packs.mixture_of_agents.agents.plans import (
    Plan,
    Task,
    hopeless,
    ready,
    ready_without_all,
)
from llama_index.packs.mixture_of_agents.agents.questions import Questions
from llama_index.packs.mixture_of_agents.agents.results import (
    CrewResponse,
    Suspicion,
    TaskMissing,
    TaskResult,
)
from llama_index.packs.mixture_of_agents.results import Usage

T = TypeVar("T")


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
                "latency_seconds": live.elapsed(),
                "run_id": self.run_id,
                **said,
            }
        )


def _called(missing: TaskMissing) -> bool:
    """Whether anyone was asked: a task that was not begun used nothing; planner's calls are counted apart."""
    return missing.task not in ("plan", "answer") and not missing.reason.startswith("not begun")


@dataclass
class LiveCrew:
    """The live side of one run.

    Attributes:
        run_id: The run's identity.
        board: What its agents share.
        clock: Monotonic seconds.
        started: When it began, in that clock.
        watch: The task that ends this when the run does.
        attended: Whether someone reads the stream and answers what is asked there.
        questions: What tools ask whoever reads the stream.
        memories: Working memories, by the member's name.
        memory_lock: Held while a working memory is read or written: two tasks of one member may end at once.
    """

    run_id: str
    board: Board
    clock: Callable[[], float]
    started: float
    watch: asyncio.Task[None] | None = None
    attended: bool = True
    questions: Questions = field(default_factory=Questions)
    memories: dict[str, RunMemory] = field(default_factory=dict)
    memory_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _working: set[asyncio.Task[Any]] = field(default_factory=set)
    _deadline: asyncio.TimerHandle | None = None
    _strike: Callable[[], None] | None = None
    _paused: float = 0.0
    _pause_began: float | None = None

    def elapsed(self) -> float:
        """Seconds since the run began, without those a person was waited for."""
        now = self.clock() if self._pause_began is None else self._pause_began
        return now - self.started - self._paused

    def arm(self, timeout: float | None, strike: Callable[[], None]) -> None:
        """Call `strike` when the run has taken so many seconds."""
        if timeout is not None:
            self._strike = strike
            self._limit = timeout
            self._set_timer()

    def pause(self) -> None:
        """A person is waited for: that does not count."""
        if self._pause_began is None:
            self._pause_began = self.clock()
        if self._deadline is not None:
            self._deadline.cancel()

    def go_on(self) -> None:
        """The person has answered."""
        if self._pause_began is not None:
            self._paused += self.clock() - self._pause_began
            self._pause_began = None
            self._set_timer()

    def _set_timer(self) -> None:
        if self._strike is not None:
            left = max(0.0, self._limit - self.elapsed())
            self._deadline = asyncio.get_running_loop().call_later(left, self._strike)

    @contextmanager
    def work(self) -> Iterator[None]:
        """The current task works for this run, and has no reason to outlive it."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("Only a task can work for a run.")
        self.go_on()  # whoever works waits for no person
        self._working.add(task)
        try:
            yield
        finally:
            self._working.discard(task)

    def memory_of(self, member: Member, tasks: int) -> RunMemory | None:
        """A member's working memory; None where it has nothing to remember.

        Args:
            member: The member.
            tasks: How many tasks of the plan are its own: with several, it knows of those before.
        """
        if member.memory is None and tasks < 2:
            return None
        if member.name not in self.memories:
            self.memories[member.name] = RunMemory(self.run_id, notebook=member.memory)
        return self.memories[member.name]

    async def close(self) -> None:
        """Let go of the working memories."""
        for memory in self.memories.values():
            await memory.close()

    def end(self) -> None:
        """The run is over, however it ended: forget its timer, and cancel what is still under way."""
        if self._deadline is not None:
            self._deadline.cancel()
        for task in self._working:
            task.cancel()


_current: ContextVar[LiveCrew] = ContextVar("mixture_of_agents_crew")


def current_crew() -> LiveCrew:
    """The run this step belongs to."""
    return _current.get()


def begun_in(live: LiveCrew, begin: Callable[[], T]) -> T:
    """Begin work whose tasks all find `live` as their current run."""
    token = _current.set(live)
    try:
        return begin()
    finally:
        _current.reset(token)


def marks(state: CrewState) -> dict[str, str]:
    """How each task stands, for a drawing of the plan."""
    said = dict.fromkeys(state.begun, "in work")
    return {**said, **dict.fromkeys(state.done, "done"), **dict.fromkeys(state.gone, "missing")}


def results_of(names: Sequence[str], state: CrewState) -> list[TaskResult]:
    """The results of these tasks, in the order of the names."""
    by_task = {result.task: result for result in state.results}
    return [by_task[name] for name in names if name in by_task]
