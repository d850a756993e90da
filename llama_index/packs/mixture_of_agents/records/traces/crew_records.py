"""A crew's run as its trace tells it: who was in it, what it did, how it ended.

Plain records; they know neither files nor lines, nor what the things are that a crew does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.records.traces.crew_schema import (
    CrewDid,
    CrewEnded,
    CrewFacts,
    CrewStarted,
)
from llama_index.packs.mixture_of_agents.records.traces.run_records import Recorded, RunStatus
from llama_index.packs.mixture_of_agents.results import Usage


@dataclass
class CrewRecord(Recorded):
    """One run of a crew, as its trace tells it.

    Attributes:
        run_id: Its identity.
        started_at: When it began.
        started: Whom it asked, on which packages.
        question: The conversation, with the request at its end.
        did: What it did, in order.
        ended: How it ended; None for a run that was killed, waits for a person, or still goes on.
        ended_at: When it ended.
        path: The file it was read from.
    """

    run_id: str
    started_at: datetime
    started: CrewStarted
    question: list[ChatMessage] = field(default_factory=list)
    did: list[CrewDid] = field(default_factory=list)
    ended: CrewEnded | None = None
    ended_at: datetime | None = None
    path: Path | None = None

    @property
    def crew(self) -> CrewFacts:
        """Whom it asked."""
        return self.started.crew

    @property
    def status(self) -> RunStatus:
        """How it ended; "degraded" for an answer from which a result, or a part of one, is missing."""
        if self.ended is None:
            return "unfinished"
        lacks = self.ended.missing or self.ended.cut
        return "degraded" if self.ended.status == "answered" and lacks else self.ended.status

    @property
    def tasks(self) -> int:
        """How many tasks were begun."""
        return sum(one.did == "task" for one in self.did)

    @property
    def spent(self) -> Usage:
        """What it took; nothing is known of a run that was killed."""
        return Usage() if self.ended is None else self.ended.usage
