"""A run as its trace tells it: whom it asked what, what came back, what that took.

Plain records; they know neither files nor lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.errors import TraceError
from llama_index.packs.mixture_of_agents.facts import MixtureFacts
from llama_index.packs.mixture_of_agents.records.traces.schema import (
    CallAnswered,
    CallAsked,
    CallMissing,
    CallRetried,
    Outcome,
    RoundAgreed,
    RunEnded,
    RunStarted,
)
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Routing, Usage

RunStatus = Literal["answered", "degraded", "failed", "timeout", "cancelled", "unfinished"]


@dataclass
class CallRecord:
    """One call of a run.

    Attributes:
        asked: What was asked of whom.
        messages: What it said; empty where the trace lost them.
        outcome: What became of it; None where the run ended before.
    """

    asked: CallAsked
    messages: list[ChatMessage] = field(default_factory=list)
    outcome: Outcome | None = None

    @property
    def record(self) -> Proposal | Missing | None:
        """The outcome as the run had it."""
        outcome = self.outcome
        if isinstance(outcome, CallAnswered):
            return Proposal(
                proposer=outcome.proposer,
                layer=outcome.layer,
                text=outcome.text,
                usage=outcome.usage,
                latency_seconds=outcome.latency_seconds,
                details=outcome.details,
            )
        if isinstance(outcome, CallMissing):
            return Missing(
                proposer=outcome.proposer, layer=outcome.layer, reason=outcome.reason, status=outcome.status
            )
        return None

    @property
    def spent(self) -> Usage:
        """What the call took of this run's money: nothing where a store answered it or a policy refused."""
        if self.outcome is not None and self.outcome.source:
            return Usage(prompt_tokens=0, completion_tokens=0, cost_usd=0.0)
        return Usage() if self.outcome is None else self.outcome.usage


class Recorded:
    """What a run, of a mixture or of a crew, tells in the same way."""

    question: list[ChatMessage]
    ended: Any

    @property
    def answer(self) -> str:
        """The answer; empty where there is none."""
        return "" if self.ended is None else str(self.ended.text)

    @property
    def question_text(self) -> str:
        """What the caller said last, as text."""
        asked = [message for message in self.question if message.role == MessageRole.USER] or self.question
        return (asked[-1].content or "") if asked else ""


@dataclass
class RunRecord(Recorded):
    """One run, as its trace tells it.

    Attributes:
        run_id: Its identity.
        started_at: When it began.
        started: Whom it asked, on which packages.
        question: The caller's conversation.
        calls: In the order they were asked.
        retries: In the order they happened.
        agreed: Where proposals agreed and rounds were skipped; None where all were needed.
        routed: What the gate decided, in order; empty without one.
        ended: How it ended; None for a run that was killed, or still goes on.
        ended_at: When it ended.
        path: The file it was read from.
    """

    run_id: str
    started_at: datetime
    started: RunStarted
    question: list[ChatMessage] = field(default_factory=list)
    calls: list[CallRecord] = field(default_factory=list)
    retries: list[CallRetried] = field(default_factory=list)
    agreed: RoundAgreed | None = None
    routed: list[Routing] = field(default_factory=list)
    ended: RunEnded | None = None
    ended_at: datetime | None = None
    path: Path | None = None

    @property
    def mixture(self) -> MixtureFacts:
        """Whom it asked."""
        return self.started.mixture

    @property
    def status(self) -> RunStatus:
        """How it ended; "degraded" for an answer that somebody is missing from."""
        if self.ended is None:
            return "unfinished"
        return "degraded" if self.ended.status == "answered" and self.ended.missing else self.ended.status

    def proposals(self, layer: int) -> list[Proposal]:
        """What was proposed in a round, in proposer order."""
        calls = [call for call in self.calls if call.asked.task == "propose" and call.asked.layer == layer]
        records = [call.record for call in sorted(calls, key=lambda call: call.asked.index)]
        return [record for record in records if isinstance(record, Proposal)]

    def last_proposals(self) -> list[Proposal]:
        """What was proposed in the last round that had any: what the run finished with."""
        rounds = map(self.proposals, range(self.mixture.num_layers - 1, 0, -1))
        return next((proposals for proposals in rounds if proposals), [])

    @property
    def spent(self) -> Usage:
        """What its calls took; nothing for those answered from a store."""
        return Usage.total(call.spent for call in self.calls)


class _Named(Protocol):
    run_id: str


NamedRun = TypeVar("NamedRun", bound=_Named)


def choose_run(runs: Sequence[NamedRun], run_id: str | None) -> NamedRun:
    """The run of that id, or of an id that begins so; None for the only one.

    A run that was taken up again has several records, of which the last one tells how it ended.

    Raises:
        TraceError: There is none, or there are several.
    """
    found = [run for run in runs if run_id is None or run.run_id.startswith(run_id)]
    exact = [run for run in found if run.run_id == run_id]
    chosen = {run.run_id: run for run in exact or found}
    if len(chosen) == 1:
        return next(iter(chosen.values()))
    ids = ", ".join(list(dict.fromkeys(run.run_id for run in runs))[:20]) or "none"
    what = "are several runs" if chosen else "is no such run"
    raise TraceError(f"There {what}{f' for {run_id!r}' if run_id else ''}. Say which, of these: {ids}.")
