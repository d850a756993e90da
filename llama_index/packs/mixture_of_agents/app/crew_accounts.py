"""A crew's run in words, line by line: the request, what was done, who is missing, what it took.

It knows records and events, and neither terminals nor files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llama_index.packs.mixture_of_agents.agents.events import AnswerEvent, PlanEvent
from llama_index.packs.mixture_of_agents.agents.narration import planned, told
from llama_index.packs.mixture_of_agents.agents.tracing import as_event
from llama_index.packs.mixture_of_agents.app.accounts import BAD, HEADING, QUIET, Line, in_words
from llama_index.packs.mixture_of_agents.records.traces.crew_records import CrewRecord
from llama_index.packs.mixture_of_agents.records.traces.crew_schema import CrewDid


def crew_account(run: CrewRecord) -> Iterator[Line]:
    """Tell a run from its beginning to its end."""
    yield Line(f"run {run.run_id}, {run.started_at.astimezone():%Y-%m-%d %H:%M:%S}, {run.status}", HEADING)
    for member in run.crew.members:
        tools = f", with {', '.join(member.tools)}" if member.tools else ""
        yield Line(f"- {member.name} ({member.identity}){tools}", QUIET)
    yield Line("")
    yield Line("request", HEADING)
    for message in run.question:
        yield Line(f"[{message.role.value}] {message.content or '(no text)'}")
    yield Line("")
    yield Line(f"what {run.crew.name} did", HEADING)
    yield from _done(run.did)
    yield from _end(run)


def _done(did: Sequence[CrewDid]) -> Iterator[Line]:
    has_plan = False
    for one in did:
        event = as_event(one)
        if event is None:  # of a later version, say
            yield Line(f"{one.seconds:7.2f} s  {one.did}")
        elif isinstance(event, PlanEvent) and not has_plan:
            has_plan = True  # where the run was taken up again, it was made before
            yield Line(planned(event))
        elif not isinstance(event, AnswerEvent) and (line := told(event)):  # the answer follows in full
            yield Line(line)


def _end(run: CrewRecord) -> Iterator[Line]:
    yield Line("")
    ended = run.ended
    if ended is None:
        yield Line("the run has no end: it was killed, waits for someone, or goes on still", BAD)
        return
    for gone in ended.missing:
        status = "" if gone.status is None else f" (HTTP {gone.status})"
        yield Line(f"missing: {gone.agent}, {gone.task}: {gone.reason}{status}", BAD)
    for one in ended.cut:
        yield Line(f"not all that was wanted: {one.agent}, {one.task}: {one.reason}", BAD)
    if ended.warnings:
        yield Line(f"texts that looked like orders to a model: {ended.warnings}", BAD)
    if ended.error is not None:
        yield Line(f"{ended.error.type}: {ended.error.message}", BAD)
    if ended.text or ended.error is None:
        yield Line(f"answer of {ended.answered_by}" if ended.answered_by else "answer", HEADING)
        yield Line(ended.text)
    yield Line("")
    yield Line(f"{ended.latency_seconds:.2f} s, {in_words(ended.usage)}", QUIET)
