"""From what a crew does to what its trace keeps of it.

`records.trace` has the file and the thread that writes; how its lines are read back, `records.traces` knows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence

from llama_index.core.base.llms.types import ChatMessage
from pydantic import ValidationError
from workflows.errors import WorkflowCancelledByUser
from workflows.events import Event

from llama_index.packs.mixture_of_agents.agents.board import BOARD_TOOLS
from llama_index.packs.mixture_of_agents.agents.events import (
    ActEvent,
    AggregateEvent,
    AnswerEvent,
    CrewEvent,
    ObserveEvent,
    PerceiveEvent,
    PlanEvent,
    ReasonEvent,
    RememberEvent,
    ResultEvent,
    TaskEvent,
)
from llama_index.packs.mixture_of_agents.agents.memory import MEMORY_TOOLS
from llama_index.packs.mixture_of_agents.agents.options import CrewSetup
from llama_index.packs.mixture_of_agents.agents.plans import Plan
from llama_index.packs.mixture_of_agents.agents.results import CrewResponse
from llama_index.packs.mixture_of_agents.agents.thoughts import Thoughts
from llama_index.packs.mixture_of_agents.errors import CrewTimeoutError, PlanRejectedError
from llama_index.packs.mixture_of_agents.records.trace import packages
from llama_index.packs.mixture_of_agents.records.traces.crew_schema import (
    CrewDid,
    CrewEnded,
    CrewFacts,
    CrewStarted,
    Gap,
    MemberFacts,
)
from llama_index.packs.mixture_of_agents.records.traces.redaction import Redaction, summary
from llama_index.packs.mixture_of_agents.records.traces.schema import RunError, Status
from llama_index.packs.mixture_of_agents.records.traces.writing import Pen

_NAMES = frozenset({"agent", "source", "state", "kind", "form"})
_TOOLS = frozenset({"tool", "tools"})
_IDS = frozenset({"id", "task", "needs", "absent", "results", "missing"})
_PLAIN_ID = re.compile(r"t\d{1,3}|plan|answer")
_WHEN = {"run_id", "seconds"}
_KINDS: dict[str, type[CrewEvent]] = {
    "plan": PlanEvent,
    "task": TaskEvent,
    "perceive": PerceiveEvent,
    "remember": RememberEvent,
    "reason": ReasonEvent,
    "act": ActEvent,
    "observe": ObserveEvent,
    "result": ResultEvent,
    "aggregate": AggregateEvent,
    "answer": AnswerEvent,
}
_WORDS = {kind: word for word, kind in _KINDS.items()}


class CrewTrace:
    """Hands what one run does to the thread that writes.

    Args:
        pen: Writes it down.
        setup: The crew.
        asked: The conversation, with the request at its end.
    """

    def __init__(self, pen: Pen, setup: CrewSetup, asked: Sequence[ChatMessage]) -> None:
        self._pen = pen
        self._thoughts = Thoughts()
        self._is_over = False
        self._tools = frozenset(BOARD_TOOLS + MEMORY_TOOLS).union(
            *(member.tool_names for member in setup.members.values())
        )
        pen.begin(lambda redaction: started(setup, redaction), asked)

    def happened(self, event: Event) -> None:
        """The crew did something; of its other events nothing is kept."""
        for each in self._thoughts.after(event):
            if isinstance(each, CrewEvent) and type(each) in _WORDS:
                self._write(each)

    def _write(self, event: CrewEvent) -> None:
        self._pen.put(lambda redaction: did(event, self._tools, redaction))

    def ended(self, outcome: CrewResponse | BaseException, so_far: CrewResponse | None) -> None:
        """The run is over; said again, nothing. Its lines are on disk before the caller has the outcome.

        Args:
            outcome: The answer, or what ended it.
            so_far: What there was by then; None for nothing.
        """
        if self._is_over:
            return
        self._is_over = True
        for each in self._thoughts.rest():
            self._write(each)
        self._pen.put(lambda redaction: ended(outcome, so_far, redaction))
        self._pen.drain()


def started(setup: CrewSetup, redaction: Redaction) -> CrewStarted:
    """A run begins; who writes it puts in the ids of the messages."""
    members = [
        MemberFacts(
            name=member.name,
            skills=redaction.text(member.skills),
            identity=member.proposer.identity,
            tools=member.tool_names,
        )
        for member in setup.members.values()
    ]
    crew = CrewFacts(
        name=setup.name,
        members=members,
        planner=None if setup.planning is None else setup.planning.identity,
        writers=[writer.identity for writer in setup.writers],
    )
    return CrewStarted(crew=crew, question=[], packages=packages(), redacted=redaction.alters)


def did(event: CrewEvent, tools: Collection[str], redaction: Redaction) -> CrewDid:
    """The crew did something; `tools` are those it has: a model may call others by names of its own."""
    fields = event.model_dump(mode="json", exclude=_WHEN)
    about = redaction.event(fields, lambda field, value: _named(field, value, tools, redaction))
    return CrewDid(did=_WORDS[type(event)], seconds=event.seconds, about=about)


def as_event(line: CrewDid) -> CrewEvent | None:
    """The event that a line tells of; None where this version knows none such, or its fields are others."""
    kind = _KINDS.get(line.did)
    try:
        event = None if kind is None else kind.model_validate({**line.about, "seconds": line.seconds})
    except (ValidationError, TypeError):
        return None
    # What another program wrote may be no plan.
    return None if isinstance(event, PlanEvent) and _is_no_plan(event.plan) else event


def _is_no_plan(plan: Plan) -> bool:
    return len(plan.levels()) != len(plan.tasks)


def _named(field: str, value: str, tools: Collection[str], redaction: Redaction) -> str | None:
    """What is written of a name, going by the field it stands in; None where it is no name, but text."""
    if field in _NAMES or (field in _TOOLS and value in tools):
        return value
    return _task_named(value, redaction) if field in _IDS else None


def _task_named(name: str, redaction: Redaction) -> str:
    """A planner may put words into the names of its tasks. Whatever is made of texts, two names stay two."""
    is_plain = _PLAIN_ID.fullmatch(name) is not None
    return name if is_plain or redaction.text(name) == name else summary(name)


def ended(
    outcome: CrewResponse | BaseException, so_far: CrewResponse | None, redaction: Redaction
) -> CrewEnded:
    """A run is over."""
    if isinstance(outcome, CrewResponse):
        return _ended("answered", outcome, None, redaction)
    error = RunError(type=type(outcome).__name__, message=redaction.text(str(outcome)))
    partial = outcome.partial if isinstance(outcome, CrewTimeoutError) else so_far
    return _ended(_status(outcome), partial or CrewResponse(text=""), error, redaction)


def _status(error: BaseException) -> Status:
    if isinstance(error, CrewTimeoutError):
        return "timeout"
    by_someone = (PlanRejectedError, WorkflowCancelledByUser, asyncio.CancelledError)
    return "cancelled" if isinstance(error, by_someone) else "failed"


def _ended(status: Status, response: CrewResponse, error: RunError | None, redaction: Redaction) -> CrewEnded:
    def gap(task: str, agent: str, reason: str, status: int | None = None) -> Gap:
        return Gap(
            task=_task_named(task, redaction),
            agent=agent,
            reason=redaction.text(reason),
            status=status,
        )

    return CrewEnded(
        status=status,
        text=redaction.text(response.text),
        answered_by=response.answered_by,
        usage=response.usage,
        latency_seconds=response.latency_seconds,
        missing=[gap(gone.task, gone.agent, gone.reason, gone.status) for gone in response.missing],
        cut=[gap(one.task, one.agent, one.cut) for one in response.results if one.cut],
        warnings=len(response.warnings),
        error=error,
    )
