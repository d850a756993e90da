"""A run in words, line by line: the question, each round, what was decided, who is missing, what it took.

It knows records, and neither terminals nor files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llama_index.packs.mixture_of_agents.app.board import dollars
from llama_index.packs.mixture_of_agents.records.traces.run_records import CallRecord, RunRecord
from llama_index.packs.mixture_of_agents.records.traces.schema import CallAnswered, CallMissing
from llama_index.packs.mixture_of_agents.results import Routing, Usage

_TASKS = {
    "roles": "writes roles",
    "condense": "condenses the round",
    "synthesize": "writes the answer",
    "rank": "picks one",
}
HEADING = "bold"
QUIET = "dim"
BAD = "red"


class Line(NamedTuple):
    """A line of an account.

    Attributes:
        text: What it says.
        style: How a terminal shows it, in Rich's words.
    """

    text: str
    style: str = ""


def account(run: RunRecord) -> Iterator[Line]:
    """Tell a run from its beginning to its end."""
    yield Line(f"run {run.run_id}, {run.started_at.astimezone():%Y-%m-%d %H:%M:%S}, {run.status}", HEADING)
    yield Line(f"{run.mixture.num_layers} layers, finish {run.mixture.finish.get('name', '?')}", QUIET)
    yield Line("")
    yield Line("question", HEADING)
    for message in run.question:
        yield Line(f"[{message.role.value}] {message.content or '(no text)'}")
    for layer in sorted({call.asked.layer for call in run.calls}):
        yield from _layer(run, layer)
    yield from _end(run)


def _layer(run: RunRecord, layer: int) -> Iterator[Line]:
    yield Line("")
    yield Line(f"round {layer}" if layer < run.mixture.num_layers else "finish", HEADING)
    for routing in (routing for routing in run.routed if routing.layer == layer):
        yield Line(_routing(routing), QUIET)
    calls = [call for call in run.calls if call.asked.layer == layer]
    for call in sorted(calls, key=lambda call: call.asked.place):
        yield from _call(call)
    for retry in (retry for retry in run.retries if retry.layer == layer):
        waited = f"{retry.proposer} was tried again after {retry.seconds:.1f} s"
        yield Line(f"{waited}: {retry.reason}", QUIET)
    if run.agreed is not None and run.agreed.layer == layer:
        yield Line(f"the remaining rounds were skipped: {run.agreed.reason}", QUIET)


def _routing(routing: Routing) -> str:
    whom = f"asks {', '.join(routing.asked)}" if routing.asked else "has enough"
    sure = "" if routing.confidence is None else f" ({routing.confidence:.0%} sure)"
    return f"the gate {whom}{sure}{f': {routing.reason}' if routing.reason else ''}"


def _call(call: CallRecord) -> Iterator[Line]:
    asked, outcome = call.asked, call.outcome
    task = f" {_TASKS[asked.task]}" if asked.task in _TASKS else ""
    turn = f", pass {asked.turn + 1}" if asked.turn else ""
    who = f"- {asked.proposer} ({asked.identity}){task}{turn}"
    if isinstance(outcome, CallAnswered):
        source = f", from {outcome.source}" if outcome.source else ""
        took = f"{outcome.latency_seconds:.2f} s, {in_words(outcome.usage)}{source}"
        yield Line(f"{who}: {took}", QUIET)
        yield Line(outcome.text)
    elif isinstance(outcome, CallMissing):
        status = "" if outcome.status is None else f" (HTTP {outcome.status})"
        yield Line(f"{who}: missing: {outcome.reason}{status}", BAD)
    else:
        yield Line(f"{who}: had no answer when the run ended", BAD)


def _end(run: RunRecord) -> Iterator[Line]:
    yield Line("")
    ended = run.ended
    if ended is None:
        yield Line("the run has no end: it was killed, or goes on still", BAD)
        return
    for cast in ended.roles:
        written = "fixed ones, as none could be written" if cast.is_fixed else "written for the question"
        names = ", ".join(role.name for role in cast.roles)
        yield Line(f"roles from round {cast.layer} on ({written}): {names}", QUIET)
    if ended.decision is not None:
        yield from _decision(run)
    for gone in ended.missing:
        yield Line(f"missing: {gone}", BAD)
    if ended.error is not None:
        yield Line(f"{ended.error.type}: {ended.error.message}", BAD)
    if ended.text or ended.error is None:
        yield Line(f"answer of {ended.synthesizer}" if ended.synthesizer else "answer", HEADING)
        yield Line(ended.text)
    yield Line("")
    yield Line(f"{ended.latency_seconds:.2f} s, {in_words(ended.usage)}", QUIET)


def _decision(run: RunRecord) -> Iterator[Line]:
    decision = run.ended.decision if run.ended is not None else None
    if decision is None:
        return
    reason = f": {decision.reason}" if decision.reason else ""
    yield Line(f"chosen: {decision.chosen}{reason}")
    for answer, names in decision.votes.items():
        tie = " (tie)" if answer in decision.ties else ""
        yield Line(f"  {len(names)} for {answer}{tie}: {', '.join(names)}", QUIET)
    if decision.abstained:
        yield Line(f"  without an answer: {', '.join(decision.abstained)}", QUIET)


def in_words(usage: Usage) -> str:
    """Tokens and dollars; what is unknown is said to be."""
    read = "?" if usage.prompt_tokens is None else usage.prompt_tokens
    written = "?" if usage.completion_tokens is None else usage.completion_tokens
    counted = " (estimated)" if usage.estimated else ""
    return f"{read} tokens in, {written} out{counted}, {dollars(usage.cost_usd)}"
