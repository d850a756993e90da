"""From what a run says to what its trace keeps of it. Pure; it knows neither files nor threads."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.packs.mixture_of_agents.errors import MixtureTimeoutError
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, SeatFacts
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.traces.redaction import Redaction
from llama_index.packs.mixture_of_agents.records.traces.schema import (
    CallAnswered,
    CallAsked,
    CallMissing,
    CallRetried,
    GateRouted,
    Outcome,
    RoundAgreed,
    RunEnded,
    RunError,
    RunStarted,
    Status,
)
from llama_index.packs.mixture_of_agents.results import (
    Cast,
    Decision,
    Missing,
    MixtureResponse,
    Proposal,
    Role,
    Routing,
    Usage,
)


def started(mixture: MixtureFacts, packages: dict[str, str], redaction: Redaction) -> RunStarted:
    """A run begins; who writes it puts in the ids of the question's messages."""
    kept = mixture if not redaction.alters else _mixture(mixture, redaction)
    return RunStarted(mixture=kept, question=[], packages=packages, redacted=redaction.alters)


def asked(call: Call) -> CallAsked:
    """A call is about to be placed; who writes it puts in the ids of its messages."""
    return CallAsked(
        **_place(call),
        identity=call.identity,
        sampling=call.sampling,
        may_call_tools=call.may_call_tools,
    )


def retried(event: ProgressEvent, redaction: Redaction) -> CallRetried:
    """A call waits and is tried again."""
    return CallRetried(
        layer=event.layer,
        proposer=event.proposer,
        task=event.task,
        seconds=event.seconds,
        reason=redaction.text(event.reason),
    )


def agreed(event: ProgressEvent, redaction: Redaction) -> RoundAgreed:
    """The remaining rounds are skipped."""
    return RoundAgreed(layer=event.layer, reason=redaction.text(event.reason))


def routed(routing: Routing, redaction: Redaction) -> GateRouted:
    """The gate decided."""
    return GateRouted(**{**dict(routing), "reason": redaction.text(routing.reason)})


def outcome_of(
    call: Call, record: Proposal | Missing, usage: Usage, source: str, redaction: Redaction
) -> Outcome:
    """A call's final outcome."""
    if isinstance(record, Missing):
        return CallMissing(
            **_place(call),
            sampling=call.sampling,
            reason=redaction.text(record.reason),
            status=record.status,
            usage=usage,
            source=source,
        )
    retries = record.details.get("retries")
    return CallAnswered(
        **_place(call),
        sampling=call.sampling,
        text=redaction.text(record.text),
        usage=usage,
        latency_seconds=record.latency_seconds,
        retries=retries if isinstance(retries, int) else None,
        source=source,
        details=redaction.details(record.details),
    )


def _place(call: Call) -> dict[str, Any]:
    return {
        "layer": call.layer,
        "index": call.index,
        "turn": call.turn,
        "task": call.task,
        "proposer": call.proposer,
    }


def ended(outcome: MixtureResponse | BaseException, redaction: Redaction) -> RunEnded:
    """A run is over."""
    if isinstance(outcome, MixtureResponse):
        return _ended("answered", outcome, None, redaction)
    error = RunError(type=type(outcome).__name__, message=redaction.text(str(outcome)))
    if isinstance(outcome, MixtureTimeoutError):
        return _ended("timeout", outcome.partial, error, redaction)
    is_cancelled = isinstance(outcome, (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit))
    return RunEnded(status="cancelled" if is_cancelled else "failed", error=error)


def _ended(
    status: Status, response: MixtureResponse, error: RunError | None, redaction: Redaction
) -> RunEnded:
    return RunEnded(
        status=status,
        text=redaction.text(response.text),
        synthesizer=response.synthesizer,
        finish=response.finish,
        usage=response.usage,
        latency_seconds=response.latency_seconds,
        missing=[_missing(gone, redaction) for gone in response.missing],
        decision=_decision(response.decision, redaction),
        roles=[_cast(cast, redaction) for cast in response.roles],
        stopped_after=response.stopped_after,
        error=error,
    )


def _missing(missing: Missing, redaction: Redaction) -> Missing:
    return missing.model_copy(update={"reason": redaction.text(missing.reason)})


def _decision(decision: Decision | None, redaction: Redaction) -> Decision | None:
    if decision is None:
        return None
    # Extracted answers are pieces of what models wrote.
    return decision.model_copy(
        update={
            "reason": redaction.text(decision.reason),
            "answer": redaction.optional(decision.answer),
            "votes": {redaction.text(answer): names for answer, names in decision.votes.items()},
            "ties": [redaction.text(answer) for answer in decision.ties],
        }
    )


def _cast(cast: Cast, redaction: Redaction) -> Cast:
    roles = [
        Role(
            name=redaction.text(role.name),
            perspective=redaction.text(role.perspective),
            instructions=redaction.text(role.instructions),
        )
        for role in cast.roles
    ]
    # The role writer's answer stands among the calls already.
    return cast.model_copy(update={"roles": roles, "writing": None})


def _mixture(mixture: MixtureFacts, redaction: Redaction) -> MixtureFacts:
    def seat(facts: SeatFacts) -> SeatFacts:
        return facts.model_copy(update={"role": redaction.optional(facts.role)})

    return mixture.model_copy(
        update={
            "layers": [[seat(each) for each in layer] for layer in mixture.layers],
            "aggregator": seat(mixture.aggregator),
            "role_writer": None if mixture.role_writer is None else seat(mixture.role_writer),
            "config": redaction.settings(mixture.config),
        }
    )
