"""What a run will take, before it is asked: calls, tokens, US dollars, the longest chain of calls.

The calls are exact, as long as nobody fails and no round is skipped because proposals agree. The tokens read
are those of the real prompts, counted with LlamaIndex's tokenizer, with drafts in them as long as answers
are expected to be; so the error is that of the lengths given, of the tokenizer, and of the schemas of tools
and shapes, which are not counted. No model is asked.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel, ConfigDict

from llama_index.packs.mixture_of_agents.checks import number, whole_number
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, SeatFacts
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.records.spending.bounds import Bounds
from llama_index.packs.mixture_of_agents.records.spending.counting import counted, has_attachments
from llama_index.packs.mixture_of_agents.records.spending.course import ROLE_TOKENS, Course, PlannedCall
from llama_index.packs.mixture_of_agents.records.spending.frames import Frames
from llama_index.packs.mixture_of_agents.records.spending.ledger import NOTHING, Amount
from llama_index.packs.mixture_of_agents.results import Task, Usage

_FROZEN = ConfigDict(frozen=True)

ANSWER_TOKENS = 400
"""What an answer is taken to be where nobody says: three or four paragraphs."""
CHOICE_TOKENS = 50
"""What a choice among drafts is: a number, and a sentence why."""

Numbers = int | float | Mapping[str, float] | None
"""One for all, or by the name of a proposer or of a model."""


class ForecastCall(BaseModel):
    """One call to come.

    Attributes:
        task: What it is for.
        layer: 1 for the first round; `num_layers` for the finish.
        index: As `proposers.Call` has it; turn, too.
        turn: Which pass.
        proposer: Who is asked.
        model: Which model that is.
        prompt_tokens: Tokens it reads.
        completion_tokens: Tokens it writes.
        cost_usd: US dollars; None where no price is known.
        seconds: How long it takes; None where nobody says.
    """

    model_config = _FROZEN

    task: Task
    layer: int
    index: int
    turn: int
    proposer: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None = None
    seconds: float | None = None


class ForecastTotal(BaseModel):
    """Calls of one kind, together.

    Attributes:
        name: What they have in common: a stage ("round 1", "answer"), or a model.
        calls: How many.
        usage: Tokens and US dollars.
    """

    model_config = _FROZEN

    name: str
    calls: int
    usage: Usage


class Forecast(BaseModel):
    """What a run will take.

    Attributes:
        calls: Every call, in order.
        usage: All of them together; its cost is None where a price is unknown.
        stages: The same by stage, in order.
        models: The same by model, the dearest first.
        chain: The longest chain of calls that wait for each other.
        seconds: How long that takes; None where nobody says how fast models are.
        most_tokens: What a run can take at most, if every answer is the longest it may be.
        most_usd: Likewise in US dollars; None where a price is unknown.
        without_price: Models no price is known for.
    """

    model_config = _FROZEN

    calls: list[ForecastCall]
    usage: Usage
    stages: list[ForecastTotal]
    models: list[ForecastTotal]
    chain: int
    seconds: float | None = None
    most_tokens: int | None = None
    most_usd: float | None = None
    without_price: list[str] = []


def forecast(
    facts: MixtureFacts,
    messages: Sequence[ChatMessage],
    prices: Prices,
    typical_answer_tokens: Numbers = None,
    *,
    latencies: Numbers = None,
    tokens_per_second: Numbers = None,
) -> Forecast:
    """Reckon what a question will take.

    Args:
        facts: The mixture.
        messages: The question.
        prices: What models cost.
        typical_answer_tokens: How long answers are, in tokens; never taken longer than they may be. None
            for `ANSWER_TOKENS`.
        latencies: Seconds that a call takes.
        tokens_per_second: How fast models write, where no latency is given.

    Raises:
        ConfigurationError: A number cannot be.
    """
    _check("typical_answer_tokens", typical_answer_tokens, whole=True)
    _check("latencies", latencies)
    _check("tokens_per_second", tokens_per_second)

    def length(seat: SeatFacts, task: Task, wanted: int) -> int:
        return _length(seat, task, wanted, typical_answer_tokens)

    course = Course(facts, Frames(messages, counted), length)
    planned = list(course.calls(course.everyone))
    calls = [_call(call, prices, latencies, tokens_per_second) for call in planned]
    most = _most(facts, messages, prices)
    unknown = {str(call.seat.identity) for call in planned if not prices.is_known(call.seat.identity)}
    return Forecast(
        calls=calls,
        usage=Usage.total(map(_usage, calls)),
        stages=[_total(name, group) for name, group in groupby(calls, _stage)],
        models=_by_model(calls),
        chain=sum(
            1 if name.startswith("round") else len(list(group)) for name, group in groupby(calls, _stage)
        ),
        seconds=_seconds(calls, facts.options.get("max_concurrency")),
        most_tokens=int(most.tokens) if most.tokens < 10**12 else None,
        most_usd=None if unknown or most.tokens >= 10**12 else most.usd,
        without_price=sorted(unknown),
    )


def _check(name: str, given: Numbers, *, whole: bool = False) -> None:
    listed = list(given.items()) if isinstance(given, Mapping) else [("", given)]
    for key, value in listed:
        called = f"{name}[{key!r}]" if key else name
        if whole:
            whole_number(called, value, 1, none="for the usual")
        else:
            number(called, value, 1e-6, 1e9, none="for unknown")


def _given(numbers: Numbers, seat: SeatFacts) -> float | None:
    if not isinstance(numbers, Mapping):
        return numbers
    return numbers.get(seat.name, numbers.get(seat.identity.model))


def _length(seat: SeatFacts, task: Task, wanted: int, typical: Numbers) -> int:
    """Tokens an answer is expected to have."""
    given = _given(typical, seat)
    usual = int(ANSWER_TOKENS if given is None else given)
    expected = {"roles": ROLE_TOKENS * wanted, "rank": CHOICE_TOKENS}.get(task, usual)
    longest = seat.longest_answer
    return expected if longest is None or longest <= 0 else min(expected, longest)


def _call(call: PlannedCall, prices: Prices, latencies: Numbers, speed: Numbers) -> ForecastCall:
    seat = call.seat
    latency, per_second = _given(latencies, seat), _given(speed, seat)
    if latency is None and per_second is not None:
        latency = call.writes / per_second
    is_agent = seat.identity.is_agent
    return ForecastCall(
        task=call.task,
        layer=call.layer,
        index=call.index,
        turn=call.turn,
        proposer=seat.name,
        model=str(seat.identity),
        prompt_tokens=call.reads,
        completion_tokens=call.writes,
        cost_usd=None if is_agent else prices.cost(seat.identity, call.reads, call.writes),
        seconds=latency,
    )


def _usage(call: ForecastCall) -> Usage:
    return Usage(
        prompt_tokens=call.prompt_tokens,
        completion_tokens=call.completion_tokens,
        cost_usd=call.cost_usd,
        estimated=True,
    )


def _stage(call: ForecastCall) -> str:
    names = {
        "roles": f"roles for round {call.layer}",
        "propose": f"round {call.layer}",
        "condense": f"condensing round {call.layer}",
        "rank": "choice",
    }
    return names.get(call.task, "answer")


def _total(name: str, calls: Iterable[ForecastCall]) -> ForecastTotal:
    listed = list(calls)
    return ForecastTotal(name=name, calls=len(listed), usage=Usage.total(map(_usage, listed)))


def _by_model(calls: Sequence[ForecastCall]) -> list[ForecastTotal]:
    """Totals of each model, the dearest first, those of unknown price before all."""
    totals = [
        _total(model, [call for call in calls if call.model == model])
        for model in Counter(call.model for call in calls)
    ]
    unknown = float("inf")
    return sorted(totals, key=lambda t: -(unknown if t.usage.cost_usd is None else t.usage.cost_usd))


def _seconds(calls: Sequence[ForecastCall], slots: object) -> float | None:
    """How long the stages take one after another, proposers of a round as many at a time as may be."""
    known = [call.seconds for call in calls if call.seconds is not None]
    if not calls or len(known) < len(calls):
        return None
    total = 0.0
    for name, group in groupby(calls, _stage):
        lasting = [call.seconds or 0.0 for call in group]
        width = (slots if isinstance(slots, int) else len(lasting)) if name.startswith("round") else 1
        total += _makespan(lasting, width)
    return total


def _makespan(lasting: Sequence[float], width: int) -> float:
    """When the last of these is done, each begun as soon as one of `width` places is free."""
    free = [0.0] * max(1, width)
    for seconds in lasting:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def _most(facts: MixtureFacts, messages: Sequence[ChatMessage], prices: Prices) -> Amount:
    """What a run can take at most, by the bounds a budget uses."""
    bounds = Bounds(facts, prices, Amount(1.0, 1))
    course = Course(facts, Frames(messages, bounds.prompt), bounds.length, bounds.scale, must_hold=True)
    attached = has_attachments(messages)
    return sum((bounds.planned(call, attached) for call in course.calls(course.everyone)), NOTHING)
