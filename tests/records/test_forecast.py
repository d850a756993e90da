"""Forecasts: calls as a run makes them, tokens and money by the lengths given, the longest chain."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, ModelIdentity
from llama_index.packs.mixture_of_agents.records.budget import Budget
from llama_index.packs.mixture_of_agents.records.forecast import ANSWER_TOKENS, Forecast, forecast
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.records.spending.counting import counted
from tests.records.simulated_runs import QUESTION, SimulatedRun, mixture, seat, start
from tests.records.test_budget import CHEAP, ONE_PRICE, mixtures

UNPRICED = Prices()


def looked_ahead(facts: MixtureFacts, **more: Any) -> Forecast:
    return forecast(facts, QUESTION, ONE_PRICE, **more)


@settings(max_examples=60)
@given(facts=mixtures())
def test_the_calls_are_those_of_a_run_in_which_nobody_fails(facts: MixtureFacts) -> None:
    policy = Budget(seconds=1e6).for_run(start(facts))
    run = SimulatedRun(facts, policy, ONE_PRICE, random.Random(1), failing=0.0, fullness=0.1)
    asyncio.run(run.run())
    placed = sorted((call.task, *call.place, call.proposer) for call in run.placed)
    told = [
        (call.task, call.layer, call.index, call.turn, call.proposer) for call in looked_ahead(facts).calls
    ]
    assert sorted(told) == placed


@settings(max_examples=40)
@given(facts=mixtures())
def test_a_prompt_without_answers_in_it_is_counted_to_the_token(facts: MixtureFacts) -> None:
    policy = Budget(seconds=1e6).for_run(start(facts))
    run = SimulatedRun(facts, policy, ONE_PRICE, random.Random(1), failing=0.0, fullness=0.1)
    asyncio.run(run.run())
    told = {(call.layer, call.index, call.turn): call.prompt_tokens for call in looked_ahead(facts).calls}
    for call in run.placed:
        takes_role = call.task == "propose" and facts.layers[call.layer - 1][call.index].takes_role
        if call.layer == 1 and call.task in ("propose", "roles") and not takes_role:
            assert told[call.place] == counted(call.messages)


def test_tokens_and_money_follow_the_lengths_given() -> None:
    short, long = (looked_ahead(mixture(), typical_answer_tokens=n).usage for n in (50, 150))
    assert short.completion_tokens == 5 * 50
    assert long.completion_tokens == 5 * 150
    assert long.prompt_tokens is not None
    assert short.prompt_tokens is not None
    assert long.prompt_tokens - short.prompt_tokens == 6 * 100
    assert long.cost_usd == pytest.approx((long.prompt_tokens * 1.0 + 750 * 5.0) / 1e6)
    assert long.estimated


def test_answers_are_never_taken_longer_than_they_may_be() -> None:
    told = looked_ahead(mixture(aggregator=seat("g", 30)))
    assert [call.completion_tokens for call in told.calls] == [200, 200, 200, 200, 30]
    open_ended = looked_ahead(mixture([["a"]], aggregator=seat("g", None, num_output=-1)))
    assert open_ended.calls[-1].completion_tokens == ANSWER_TOKENS


def test_lengths_may_be_told_apart_by_proposer_or_by_model() -> None:
    facts = mixture([["a", "b"]])
    told = looked_ahead(facts, typical_answer_tokens={"a": 10, "g": 20})
    assert [call.completion_tokens for call in told.calls] == [10, 200, 20]


def test_stages_and_models_add_up_to_the_whole() -> None:
    facts = mixture(pass_on="condensed", role_writer=seat("w"), roles_per="layer").model_copy(
        update={"layers": [[seat("a", takes_role=True), seat("b")], [seat("a", takes_role=True), seat("b")]]}
    )
    told = looked_ahead(facts)
    assert [(stage.name, stage.calls) for stage in told.stages] == [
        ("roles for round 1", 1),
        ("round 1", 2),
        ("condensing round 1", 1),
        ("roles for round 2", 1),
        ("round 2", 2),
        ("answer", 1),
    ]
    assert told.chain == 6
    for parts in (told.stages, told.models):
        assert sum(part.calls for part in parts) == len(told.calls)
        assert sum(part.usage.prompt_tokens or 0 for part in parts) == told.usage.prompt_tokens
        assert sum(part.usage.cost_usd or 0 for part in parts) == pytest.approx(told.usage.cost_usd)


def test_the_chain_is_a_call_for_each_round_and_each_pass() -> None:
    wide = [["a", "b", "c", "d", "e"]]
    assert looked_ahead(mixture(wide)).chain == 2
    assert looked_ahead(mixture(wide, finish={"name": "vote"})).chain == 1
    assert looked_ahead(mixture(wide, finish={"name": "sequential", "window": 2})).chain == 1 + 4
    assert looked_ahead(mixture([])).chain == 1


def test_seconds_are_those_of_the_slowest_in_each_round() -> None:
    latencies = {"a": 1.0, "b": 5.0, "g": 2.0}
    assert looked_ahead(mixture(), latencies=latencies).seconds == pytest.approx(12.0)
    narrow = mixture(options={"max_concurrency": 1})
    assert looked_ahead(narrow, latencies=latencies).seconds == pytest.approx(14.0)
    assert looked_ahead(mixture(), tokens_per_second=20).seconds == pytest.approx(3 * 200 / 20)
    assert looked_ahead(mixture(), latencies={"a": 1.0}).seconds is None


def test_drafts_that_overflow_the_window_take_more_passes() -> None:
    narrow = seat("g", 100).model_copy(update={"context_window": 900})
    told = looked_ahead(mixture([["a", "b", "c", "d"]], aggregator=narrow), typical_answer_tokens=200)
    assert told.stages[-1].calls > 1


def test_an_unknown_price_leaves_the_sum_unknown_and_is_named() -> None:
    told = forecast(mixture(), QUESTION, Prices({"a": CHEAP, "b": CHEAP}))
    assert told.usage.cost_usd is None
    assert told.most_usd is None
    assert told.without_price == ["Any(g)"]
    assert told.most_tokens is not None


def test_an_agents_calls_have_no_price_and_no_bound() -> None:
    clerk = ModelIdentity(class_name="FunctionAgent", model="clerk", is_agent=True)
    told = looked_ahead(
        MixtureFacts(layers=[[seat("a").model_copy(update={"identity": clerk})]], aggregator=seat("g"))
    )
    assert told.calls[0].cost_usd is None
    assert (told.most_usd, told.most_tokens) == (None, None)


@settings(max_examples=40)
@given(facts=mixtures())
def test_no_run_takes_more_than_the_most(facts: MixtureFacts) -> None:
    told = looked_ahead(facts)
    policy = Budget(seconds=1e6).for_run(start(facts))
    run = SimulatedRun(facts, policy, ONE_PRICE, random.Random(1), failing=0.0, fullness=0.3)
    asyncio.run(run.run())
    assert told.most_tokens is not None
    assert told.most_usd is not None
    assert run.account.tokens <= told.most_tokens
    assert run.account.usd <= told.most_usd
    assert (told.usage.cost_usd or 0) <= told.most_usd


def test_a_forecast_survives_a_round_trip_as_json() -> None:
    told = looked_ahead(mixture())
    assert Forecast.model_validate_json(told.model_dump_json()) == told


@pytest.mark.parametrize("text", ["{} %s \x00", "\ud800", "x" * 300_000])
def test_any_question_can_be_looked_ahead_at(text: str) -> None:
    assert forecast(mixture(), [ChatMessage(role="user", content=text)], UNPRICED).usage.prompt_tokens


@pytest.mark.parametrize(
    "wrong",
    [
        {"typical_answer_tokens": 0},
        {"typical_answer_tokens": {"a": "many"}},
        {"latencies": {"a": -1}},
        {"tokens_per_second": float("inf")},
    ],
)
def test_numbers_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        looked_ahead(mixture(), **wrong)
