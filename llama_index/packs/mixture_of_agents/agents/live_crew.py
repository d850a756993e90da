"""The live side of a crew's run: what only exists while the process does, such as its clock and its board.

Steps find it through a context variable, so concurrent runs never meet. It knows neither models nor what the
run has come to, which is `state`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from llama_index.core.base.llms.types import ChatMessage
from workflows.events import Event
from workflows.handler import WorkflowHandler

from llama_index.packs.mixture_of_agents.agents.board import Board
from llama_index.packs.mixture_of_agents.agents.clock import RunClock
from llama_index.packs.mixture_of_agents.agents.members import Member
from llama_index.packs.mixture_of_agents.agents.memory import RunMemory
from llama_index.packs.mixture_of_agents.agents.options import CrewSetup
from llama_index.packs.mixture_of_agents.agents.questions import Questions
from llama_index.packs.mixture_of_agents.agents.results import CrewResponse
from llama_index.packs.mixture_of_agents.agents.tracing import CrewTrace
from llama_index.packs.mixture_of_agents.events import DeadlineEvent

T = TypeVar("T")
_LONGEST_END = 5.0
_PLAN = "plan"
"""The clock's name for waiting until someone has seen the plan."""


@dataclass
class LiveCrew:
    """The live side of one run.

    Attributes:
        run_id: The run's identity.
        board: What its agents share.
        clock: How long it has taken, and when its time is up.
        watch: The task that ends this when the run does.
        trace: Writes down what the run does; None for nobody.
        so_far: What there is by now; None before anything is.
        attended: Whether someone reads the stream and answers what is asked there.
        questions: What tools ask whoever reads the stream.
        memories: Working memories, by the member's name.
        memory_lock: Held while a working memory is read or written: two tasks of one member may end at once.
    """

    run_id: str
    board: Board
    clock: RunClock
    watch: asyncio.Task[None] | None = None
    trace: CrewTrace | None = None
    so_far: Callable[[], CrewResponse] | None = None
    attended: bool = True
    questions: Questions = field(default_factory=Questions)
    memories: dict[str, RunMemory] = field(default_factory=dict)
    memory_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _working: set[asyncio.Task[Any]] = field(default_factory=set)

    def go_with(self, handler: WorkflowHandler, timeout: float | None) -> None:
        """Strike when the run has taken so many seconds, and end when it does.

        Args:
            handler: The run's.
            timeout: Seconds; None for no limit.
        """
        self.clock.arm(timeout, lambda: _strike(handler))
        self.watch = _watches[handler] = asyncio.ensure_future(self._end_with(handler))

    def begin_trace(self, setup: CrewSetup, run_id: str, asked: Sequence[ChatMessage]) -> None:
        """Have the run written down from here on, where it is to be and is not yet.

        Args:
            setup: The crew.
            run_id: What the response will call the run.
            asked: The conversation, with the request at its end.
        """
        if setup.trace is not None and self.trace is None:
            self.trace = CrewTrace(setup.trace.pen(run_id), setup, asked)

    def happened(self, event: Event) -> None:
        """The run did something."""
        if self.trace is not None:
            self.trace.happened(event)

    def ended(self, outcome: CrewResponse | BaseException) -> None:
        """The run is over; what is said first counts."""
        if self.trace is not None:
            self.trace.ended(outcome, None if self.so_far is None else self.so_far())

    def show_plan(self) -> None:
        """Someone is shown the plan: until they have answered, no time passes."""
        self.clock.pause(_PLAN)

    def plan_seen(self) -> None:
        """Whoever was shown the plan has answered."""
        self.clock.go_on(_PLAN)

    async def ask(self, what: str) -> bool:
        """Ask whoever reads the stream; no time passes until they have answered.

        Args:
            what: What is about to be done.

        Raises:
            ToolError: Nobody reads it.
        """
        wait = object()
        self.clock.pause(wait)
        try:
            return await self.questions.ask(what)
        finally:
            self.clock.go_on(wait)

    @contextmanager
    def work(self) -> Iterator[None]:
        """The current task works for this run, and has no reason to outlive it."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("Only a task can work for a run.")
        self.plan_seen()  # a run that was taken up again may have been past that
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

    async def _end_with(self, handler: WorkflowHandler) -> None:
        """End when the run does, also where who awaits the handler is cancelled."""
        try:
            # Its error is for whoever awaits the handler.
            await asyncio.gather(handler.stop_event_result(), return_exceptions=True)
        finally:
            self._end()
            await self.close_memories()

    async def close_memories(self) -> None:
        """Nobody remembers anything more in this run."""
        while self.memories:
            _, memory = self.memories.popitem()
            await memory.close()

    def _end(self) -> None:
        """The run is over, however it ended: forget its timer, and cancel what is still under way."""
        self.clock.stop()
        self.ended(asyncio.CancelledError("cancelled"))  # by nobody's word, if it had not ended before
        for task in self._working:
            task.cancel()


_watches: WeakKeyDictionary[WorkflowHandler, asyncio.Task[None]] = WeakKeyDictionary()


async def wound_up(handler: WorkflowHandler) -> None:
    """Wait until nothing of a run that has ended is left: its trace is written, its memories are closed."""
    watch = _watches.get(handler)
    if watch is not None:
        await asyncio.wait({watch}, timeout=_LONGEST_END)


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


def _strike(handler: WorkflowHandler) -> None:
    if not handler.is_done():
        handler.ctx.send_event(DeadlineEvent())
