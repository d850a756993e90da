"""What many runs took, model by model: calls, failures, tokens, money, time; and how far votes agreed.

Pure counting over records that were read. Calls answered from a store took nothing, and are counted apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llama_index.packs.mixture_of_agents.records.traces.crew_records import CrewRecord
from llama_index.packs.mixture_of_agents.records.traces.run_records import CallRecord, RunRecord
from llama_index.packs.mixture_of_agents.records.traces.schema import CallAnswered, CallMissing
from llama_index.packs.mixture_of_agents.results import Decision

_FROZEN = ConfigDict(frozen=True)


class ModelStats(BaseModel):
    """What one model did.

    Attributes:
        model: Its class and name.
        calls: Calls that went out.
        failures: Those of them that gave nothing.
        unfinished: Those of them whose run ended first.
        retries: Further tries.
        from_store: Calls that a store answered.
        refused: Calls that a policy refused.
        prompt_tokens: Tokens read, of the calls that say so.
        completion_tokens: Tokens written, likewise.
        cost_usd: US dollars, of the calls whose price is known.
        unpriced: Answers whose price is unknown.
        latency_p50: Seconds that half of the answers took at most; None without answers.
        latency_p95: Likewise, of 95 in 100.
    """

    model_config = _FROZEN

    model: str
    calls: int = 0
    failures: int = 0
    unfinished: int = 0
    retries: int = 0
    from_store: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    latency_p50: float | None = None
    latency_p95: float | None = None


class VoteStats(BaseModel):
    """How far votes agreed.

    Attributes:
        runs: Runs that were decided by votes.
        agreement: The winner's share of the proposals, on average; None without such runs.
        ties: Runs that ended in a tie.
        abstained: Proposals without an answer.
    """

    model_config = _FROZEN

    runs: int = 0
    agreement: float | None = None
    ties: int = 0
    abstained: int = 0


class Stats(BaseModel):
    """What runs took.

    Attributes:
        runs: How many, by how they ended.
        models: Of each model, most calls first.
        all: Of all models together.
        votes: Of those runs that were decided by votes.
    """

    model_config = _FROZEN

    runs: dict[str, int] = Field(default_factory=dict)
    models: list[ModelStats] = Field(default_factory=list)
    all: ModelStats
    votes: VoteStats


class CrewStats(BaseModel):
    """What runs of crews took.

    Attributes:
        runs: How many, by how they ended.
        tasks: That were begun.
        missing: Tasks without a result, and calls of planners and aggregators that failed.
        prompt_tokens: Of runs where they are known.
        completion_tokens: Likewise.
        cost_usd: In US dollars, likewise.
        unpriced: Runs whose cost is not known.
    """

    model_config = _FROZEN

    runs: dict[str, int] = Field(default_factory=dict)
    tasks: int = 0
    missing: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0


def crew_stats_of(runs: Sequence[CrewRecord]) -> CrewStats:
    """Count what runs of crews took; one that was taken up again is one."""
    last = list({run.run_id: run for run in runs}.values())
    usages = [run.spent for run in last]
    return CrewStats(
        runs=_by_status([run.status for run in last]),
        tasks=sum(run.tasks for run in runs),
        missing=sum(len(run.ended.missing) for run in last if run.ended is not None),
        prompt_tokens=_known(usage.prompt_tokens for usage in usages),
        completion_tokens=_known(usage.completion_tokens for usage in usages),
        cost_usd=_known(usage.cost_usd for usage in usages),
        unpriced=sum(usage.cost_usd is None for usage in usages),
    )


def _by_status(statuses: Sequence[str]) -> dict[str, int]:
    return {status: statuses.count(status) for status in dict.fromkeys(statuses)}


def stats_of(runs: Sequence[RunRecord]) -> Stats:
    """Count what runs took."""
    by_model: dict[str, list[CallRecord]] = {}
    for call in (call for run in runs for call in run.calls):
        by_model.setdefault(str(call.asked.identity), []).append(call)
    models = [_model_stats(name, calls) for name, calls in by_model.items()]
    return Stats(
        runs=_by_status([run.status for run in runs]),
        models=sorted(models, key=lambda model: (-model.calls, model.model)),
        all=_model_stats("all", [call for calls in by_model.values() for call in calls]),
        votes=_vote_stats([run.ended.decision for run in runs if run.ended and run.ended.decision]),
    )


def _model_stats(name: str, calls: Sequence[CallRecord]) -> ModelStats:
    out = [call for call in calls if call.outcome is None or not call.outcome.source]
    answers = [call.outcome for call in out if isinstance(call.outcome, CallAnswered)]
    stored = [call.outcome for call in calls if call.outcome is not None and call.outcome.source]
    latencies = [answer.latency_seconds for answer in answers]
    usages = [call.outcome.usage for call in out if call.outcome is not None]
    return ModelStats(
        model=name,
        calls=len(out),
        failures=sum(isinstance(call.outcome, CallMissing) for call in out),
        unfinished=sum(call.outcome is None for call in out),
        retries=sum(answer.retries or 0 for answer in answers),
        from_store=sum(isinstance(outcome, CallAnswered) for outcome in stored),
        refused=sum(isinstance(outcome, CallMissing) for outcome in stored),
        prompt_tokens=_known(usage.prompt_tokens for usage in usages),
        completion_tokens=_known(usage.completion_tokens for usage in usages),
        cost_usd=_known(usage.cost_usd for usage in usages),
        unpriced=sum(answer.usage.cost_usd is None for answer in answers),
        latency_p50=percentile(latencies, 50),
        latency_p95=percentile(latencies, 95),
    )


def _known(values: Iterable[Any]) -> Any:
    return sum(value for value in values if value is not None)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that so many in 100 do not exceed; None of no values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * share / 100) - 1)]


def _vote_stats(decisions: Sequence[Decision]) -> VoteStats:
    voted = [decision for decision in decisions if decision.votes or decision.abstained]
    shares = [_winners_share(decision) for decision in voted]
    return VoteStats(
        runs=len(voted),
        agreement=sum(shares) / len(shares) if shares else None,
        ties=sum(bool(decision.ties) for decision in voted),
        abstained=sum(len(decision.abstained) for decision in voted),
    )


def _winners_share(decision: Decision) -> float:
    voters = sum(len(names) for names in decision.votes.values())
    winners = next((names for names in decision.votes.values() if decision.chosen in names), [])
    return len(winners) / (voters + len(decision.abstained))
