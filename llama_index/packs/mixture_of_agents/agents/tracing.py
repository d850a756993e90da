"""From what a crew does to what its trace keeps of it.

`records.trace` has the file and the thread that writes; how its lines are read back, `records.traces` knows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage
from pydantic import ValidationError
from workflows.errors import WorkflowCancelledByUser
from workflows.events import Event

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
from llama_index.packs.mixture_of_agents.agents.options import CrewSetup
from llama_index.packs.mixture_of_agents.agents.results import CrewResponse
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
from llama_index.packs.mixture_of_agents.records.traces.redaction import Redaction
from llama_index.packs.mixture_of_agents.records.traces.schema import RunError, Status
from llama_index.packs.mixture_of_agents.records.traces.writing import Pen

_NAMES = frozenset({"agent", "tool", "tools", "source", "state", "kind", "form"})
_IDS = frozenset({"id", "task", "needs", "absent", "results", "missing"})
_PLAIN_ID = re.compile(r"t\d{1,3}|plan|answer")
"""A planner may put words into the names of its tasks; in these there are none."""
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
        self._thoughts: dict[str, list[ReasonEvent]] = {}
        self._is_over = False
        pen.put(lambda redaction: started(setup, redaction), asked)

    def happened(self, event: Event) -> None:
        """The crew did something; of its other events nothing is kept."""
        if isinstance(event, ReasonEvent):  # in pieces, from agents
            self._thoughts.setdefault(event.task, []).append(event)
        elif isinstance(event, CrewEvent) and type(event) in _WORDS:
            self._put_thoughts_of(_task_of(event))
            self._pen.put(lambda redaction: did(event, redaction))

    def ended(self, outcome: CrewResponse | BaseException) -> None:
        """The run is over; said again, nothing. Its lines are on disk before the caller has the answer."""
        if self._is_over:
            return
        self._is_over = True
        for task in list(self._thoughts):
            self._put_thoughts_of(task)
        self._pen.put(lambda redaction: ended(outcome, redaction))
        self._pen.drain()

    def _put_thoughts_of(self, task: str) -> None:
        pieces = self._thoughts.pop(task, [])
        if pieces:
            whole = pieces[0].model_copy(update={"text": "".join(piece.text for piece in pieces)})
            self._pen.put(lambda redaction: did(whole, redaction))


def _task_of(event: CrewEvent) -> str:
    record = getattr(event, "result", None) or getattr(event, "missing", None) or event
    return str(getattr(record, "task", ""))


def started(setup: CrewSetup, redaction: Redaction) -> CrewStarted:
    """A run begins; who writes it puts in the ids of the messages."""
    members = [
        MemberFacts(
            name=member.name,
            skills=redaction.text(member.skills),
            identity=member.proposer.identity,
            tools=[str(tool.metadata.name) for tool in member.tools],
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


def did(event: CrewEvent, redaction: Redaction) -> CrewDid:
    """The crew did something."""
    about = redaction.event(event.model_dump(mode="json", exclude=_WHEN), _is_name)
    return CrewDid(did=_WORDS[type(event)], seconds=event.seconds, about=about)


def as_event(line: CrewDid) -> CrewEvent | None:
    """The event that a line tells of; None where this version knows none such, or its fields are others."""
    kind = _KINDS.get(line.did)
    try:
        return None if kind is None else kind(**line.about, seconds=line.seconds)
    except ValidationError:
        return None


def _is_name(field: str, value: str) -> bool:
    return field in _NAMES or (field in _IDS and _PLAIN_ID.fullmatch(value) is not None)


def ended(outcome: CrewResponse | BaseException, redaction: Redaction) -> CrewEnded:
    """A run is over."""
    if isinstance(outcome, CrewResponse):
        return _ended("answered", outcome, None, redaction)
    error = RunError(type=type(outcome).__name__, message=redaction.text(str(outcome)))
    if isinstance(outcome, CrewTimeoutError):
        return _ended("timeout", outcome.partial, error, redaction)
    by_someone = (PlanRejectedError, WorkflowCancelledByUser, asyncio.CancelledError)
    return CrewEnded(status="cancelled" if isinstance(outcome, by_someone) else "failed", error=error)


def _ended(status: Status, response: CrewResponse, error: RunError | None, redaction: Redaction) -> CrewEnded:
    def named(task: str) -> str:
        return task if _is_name("task", task) else redaction.text(task)

    gaps = [
        Gap(task=named(gone.task), agent=gone.agent, reason=redaction.text(gone.reason), status=gone.status)
        for gone in response.missing
    ]
    cut = {named(one.task): redaction.text(one.cut) for one in response.results if one.cut}
    return CrewEnded(
        status=status,
        text=redaction.text(response.text),
        answered_by=response.answered_by,
        usage=response.usage,
        latency_seconds=response.latency_seconds,
        missing=gaps,
        cut=cut,
        warnings=len(response.warnings),
        error=error,
    )
