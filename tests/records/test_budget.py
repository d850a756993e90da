"""Budgets: never overspent, what is left out is told, and what cannot work is refused before any call."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock

from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, ModelIdentity
from llama_index.packs.mixture_of_agents.policies import RunWatch
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.budget import Budget
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.results import Proposal, Usage
from tests.records.simulated_runs import Account, SimulatedRun, mixture, seat, start

CHEAP = {"input": 1.0, "output": 5.0}
ONE_PRICE = Prices({"*": CHEAP})


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def simulated(budget: Budget, facts: MixtureFacts, run_id: str = "run", **more: Any) -> SimulatedRun:
    settled = {"prices": budget.prices or ONE_PRICE, "chance": random.Random(1), "failing": 0.0, **more}
    return SimulatedRun(facts, budget.for_run(start(facts, run_id)), **settled)


def ran(budget: Budget, facts: MixtureFacts, **more: Any) -> SimulatedRun:
    run = simulated(budget, facts, **more)
    asyncio.run(run.run())
    run.policy.ended(RuntimeError("over"))
    return run


def least_of(facts: MixtureFacts, prices: Prices = ONE_PRICE, **more: Any) -> float:
    """The smallest budget in USD, as the refusal names it."""
    with pytest.raises(ConfigurationError) as refusal:
        Budget(0.0, prices=prices, **more).for_run(start(facts))
    named = re.search(r"at least \$([0-9.]+)", str(refusal.value))
    assert named is not None, str(refusal.value)
    return float(named[1])


def asked(run: SimulatedRun, layer: int) -> list[str]:
    return sorted(call.proposer for call in run.placed if call.layer == layer and call.task == "propose")


names = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True)
finishes: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{"name": "synthesize"}, {"name": "rank"}, {"name": "vote"}, {"name": "sequential", "window": 2}]
)


@st.composite
def mixtures(draw: st.DrawFn) -> MixtureFacts:
    longest = draw(st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 600)))
    role = draw(st.none() | st.just("You are careful."))
    layers = [
        [seat(name, longest.get(name, 150), role=role, takes_role=name == "a") for name in layer]
        for layer in draw(st.lists(names, max_size=4))
    ]
    return MixtureFacts(
        layers=layers,
        aggregator=seat("g", longest.get("g", 300)),
        role_writer=draw(st.none() | st.just(seat("w", 100))),
        roles_per=draw(st.sampled_from(["run", "layer"])),
        finish=draw(finishes),
        pass_on=draw(st.sampled_from(["proposals", "condensed"])),
    )


rates = st.fixed_dictionaries({"input": st.floats(0, 20), "output": st.floats(0, 80)})
price_lists = st.dictionaries(st.sampled_from("abcdefgw"), rates).map(
    lambda given: Prices({**given, "*": {"input": 0.5, "output": 2}})
)
orders = st.permutations(["skip_refine", "drop_dearest", "short_synthesis"]).flatmap(
    lambda order: st.integers(0, 3).map(lambda count: order[:count])
)


@settings(max_examples=150)
@given(
    facts=mixtures(),
    prices=price_lists,
    order=orders,
    spare=st.floats(1.0, 6.0),
    seed=st.integers(0, 10**6),
    failing=st.sampled_from([0.0, 0.2, 0.7]),
    margin=st.none() | st.just(9.0),
)
def test_no_run_costs_more_than_its_budget(
    facts: MixtureFacts,
    prices: Prices,
    order: Sequence[str],
    spare: float,
    seed: int,
    failing: float,
    margin: float | None,
) -> None:
    settled: dict[str, Any] = {"prices": prices, "degrade": order, "shortest_answer": 50, "margin": margin}
    try:
        Budget(0.0, **settled).for_run(start(facts))
        limit = 1e-6
    except ConfigurationError:
        limit = least_of(facts, **settled) * spare
    run = ran(Budget(limit, **settled), facts, chance=random.Random(seed), failing=failing)
    assert run.account.usd <= limit * (1 + 1e-9)
    report = run.policy.report()
    assert run.account.usd <= report.spent_usd + 1e-9
    assert report.over_bound == []
    if failing == 0.0:
        assert run.placed, "a budget that is not refused is enough for something"


@settings(max_examples=60)
@given(facts=mixtures(), spare=st.floats(1.0, 4.0), seed=st.integers(0, 10**6))
def test_no_run_takes_more_tokens_than_its_budget(facts: MixtureFacts, spare: float, seed: int) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Budget(tokens=1).for_run(start(facts))
    limit = int(int(str(refusal.value).split("at least ")[1].split()[0]) * spare)
    run = ran(Budget(tokens=limit), facts, chance=random.Random(seed), failing=0.2)
    assert run.account.tokens <= limit


@settings(max_examples=40)
@given(
    facts=mixtures(),
    count=st.integers(2, 5),
    spare=st.floats(0.5, 3.0),
    seed=st.integers(0, 10**6),
)
def test_runs_that_share_a_total_never_pass_it_together(
    facts: MixtureFacts, count: int, spare: float, seed: int
) -> None:
    total = least_of(facts) * spare * count / 2
    budget, account, chance = Budget(total=total, prices=ONE_PRICE), Account(), random.Random(seed)

    async def one(number: int) -> None:
        await asyncio.sleep(0)
        try:
            run = simulated(budget, facts, f"run-{number}", chance=chance, account=account, failing=0.3)
        except ConfigurationError:
            return  # the total is used up or spoken for
        for name in ("begin", "end"):
            setattr(run, name, _giving_way(getattr(run, name)))
        await run.run()
        run.policy.ended(RuntimeError("over"))

    async def together() -> None:
        await asyncio.gather(*map(one, range(count)))

    asyncio.run(together())
    assert account.usd <= total * (1 + 1e-9)
    assert account.usd <= budget.spent.usd + 1e-9


def _giving_way(step: Any) -> Any:
    async def slowly(*args: Any) -> Any:
        await asyncio.sleep(0)
        return await step(*args)

    return slowly


def test_a_budget_for_everything_leaves_nothing_out() -> None:
    facts = mixture()
    run = ran(Budget(1.0, prices=ONE_PRICE), facts)
    assert [call.place for call in sorted(run.placed, key=lambda call: call.place)] == [
        (1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 0), (3, 0, 0)
    ]  # fmt: skip
    assert run.policy.report().degraded == []


@given(facts=mixtures(), prices=price_lists)
@settings(max_examples=40)
def test_the_budget_that_a_refusal_names_is_enough_for_an_answer(facts: MixtureFacts, prices: Prices) -> None:
    try:
        Budget(0.0, prices=prices).for_run(start(facts))
    except ConfigurationError:
        least = least_of(facts, prices)
        run = simulated(Budget(least, prices=prices), facts)
        assert asyncio.run(run.run()) is not None
        if least > 1e-4:
            with pytest.raises(ConfigurationError):
                Budget(least * 0.98, prices=prices).for_run(start(facts))


def test_refine_layers_go_first_and_say_why() -> None:
    facts = mixture()
    budget = Budget(least_of(facts) * 2.2, prices=ONE_PRICE)
    run = ran(budget, facts)
    assert (asked(run, 1), asked(run, 2)) == (["a", "b"], [])
    assert [str(gone) for gone in run.refused] == [
        f"{name}, layer 2: {run.refused[0].reason}" for name in ("a", "b")
    ] or len(run.refused) == 2
    assert "round 2 is skipped" in run.refused[0].reason
    assert "$" in run.refused[0].reason
    (left_out,) = run.policy.report().degraded
    assert (left_out.measure, left_out.layer, left_out.who) == ("skip_refine", 2, ["a", "b"])


def test_the_dearest_proposers_are_dropped_and_the_cheapest_stays() -> None:
    facts = mixture([["dear", "cheap", "fair"]])
    prices = Prices({"dear": {"input": 50, "output": 200}, "fair": {"input": 4, "output": 20}, "*": CHEAP})
    least = least_of(facts, prices)
    run = ran(Budget(least * 1.05, prices=prices), facts)
    assert asked(run, 1) == ["cheap"]
    assert {gone.proposer for gone in run.refused} == {"dear", "fair"}
    run = ran(Budget(least * 3, prices=prices), facts)
    assert asked(run, 1) == ["cheap", "fair"]
    assert run.refused[0].reason.startswith("not asked: one of the dearest of its round")


def test_the_answer_is_made_shorter_but_not_shorter_than_acceptable() -> None:
    facts = mixture([["a"]], aggregator=seat("g", 4_000))
    least = least_of(facts, shortest_answer=100)
    run = ran(Budget(least, prices=ONE_PRICE, shortest_answer=100), facts)
    (answer,) = [call for call in run.placed if call.task == "synthesize"]
    assert answer.sampling.max_tokens is not None
    assert 100 <= answer.sampling.max_tokens < 4_000
    assert run.policy.report().degraded[-1].measure == "short_synthesis"
    assert least < least_of(facts, shortest_answer=2_000)


def test_measures_are_taken_in_the_order_given() -> None:
    facts = mixture(aggregator=seat("g", 6_000))
    limit = least_of(facts) * 4
    usual = ran(Budget(limit, prices=ONE_PRICE), facts)
    shorter_first = ran(
        Budget(limit, prices=ONE_PRICE, degrade=["short_synthesis", "skip_refine", "drop_dearest"]), facts
    )
    assert asked(usual, 2) == []
    assert asked(shorter_first, 2) == ["a", "b"]


def test_a_measure_that_is_not_named_is_not_taken() -> None:
    facts = mixture()
    assert least_of(facts, degrade=[]) > least_of(facts, degrade=["skip_refine"]) > least_of(facts)
    limit = least_of(facts, degrade=["drop_dearest"])
    run = ran(Budget(limit, prices=ONE_PRICE, degrade=["drop_dearest"]), facts)
    assert len(asked(run, 1)) >= 1
    assert len(asked(run, 2)) >= 1


def test_a_run_that_cannot_fit_is_refused_with_what_it_needs() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Budget(0.0001, prices=ONE_PRICE).for_run(start(mixture([["a", "b"]])))
    assert "too small" in str(refusal.value)
    assert "asking a and then g" in str(refusal.value)
    assert "lower max_tokens" in str(refusal.value)


def test_without_a_longest_answer_the_refusal_says_so() -> None:
    facts = mixture([["a"]], aggregator=seat("g", None))
    with pytest.raises(ConfigurationError, match="none is set for g"):
        Budget(0.0001, prices=ONE_PRICE).for_run(start(facts))


def test_an_unknown_price_is_refused_and_told_how_to_give_one() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Budget(1.0).for_run(start(mixture()))
    assert 'prices={"Any:a": {"input": ..., "output": ...}}' in str(refusal.value)
    Budget(tokens=10**6).for_run(start(mixture()))
    Budget(seconds=9).for_run(start(mixture()))


def test_an_agent_has_no_bound_unless_it_is_free_or_only_time_is_limited() -> None:
    agent = seat("clerk").model_copy(
        update={"identity": ModelIdentity(class_name="FunctionAgent", model="clerk", is_agent=True)}
    )
    facts = MixtureFacts(layers=[[agent]], aggregator=seat("g"))
    with pytest.raises(ConfigurationError, match="No price is known for clerk"):
        Budget(1.0, prices=Prices({"*": CHEAP, "clerk": CHEAP})).for_run(start(facts))
    with pytest.raises(ConfigurationError, match="Nobody knows beforehand how often clerk"):
        Budget(tokens=10**6).for_run(start(facts))
    Budget(1.0, prices={"clerk": {"input": 0, "output": 0}, "*": CHEAP}).for_run(start(facts))
    Budget(seconds=1).for_run(start(facts))


def test_a_picture_may_fill_the_window() -> None:
    blocks = [TextBlock(text="What is this?"), ImageBlock(url="http://127.0.0.1/x.png")]
    asking = [ChatMessage(role="user", blocks=blocks)]
    facts, free = mixture([["a"]]), Prices({"*": {"input": 0, "output": 0}})
    with pytest.raises(ConfigurationError, match=r"at least \$0.01[0-9]+"):
        Budget(0.001, prices=ONE_PRICE).for_run(start(facts, messages=asking))
    blind = facts.model_copy(update={"aggregator": seat("g").model_copy(update={"context_window": None})})
    with pytest.raises(ConfigurationError, match="pictures or documents"):
        Budget(1.0, prices=ONE_PRICE).for_run(start(blind, messages=asking))
    Budget(0.001, prices=free).for_run(start(blind, messages=asking))


def test_models_that_cost_nothing_fit_any_budget() -> None:
    facts = mixture()
    run = ran(Budget(0.0, prices={"*": {"input": 0, "output": 0}}), facts)
    assert len(run.placed) == 5


def test_roles_that_do_not_fit_are_refused_and_the_run_goes_on() -> None:
    facts = MixtureFacts(
        layers=[[seat("a", takes_role=True)]], aggregator=seat("g"), role_writer=seat("w", 7_000)
    )
    prices = Prices({"w": {"input": 1, "output": 100}, "*": CHEAP})
    run = ran(Budget(least_of(facts, prices), prices=prices), facts)
    assert [call.task for call in run.placed] == ["propose", "synthesize"]
    assert "fixed roles stand in" in run.refused[0].reason
    assert run.policy.report().degraded[0].measure == "no_roles"


def test_a_round_that_is_skipped_is_not_condensed_for() -> None:
    facts = mixture(pass_on="condensed")
    run = ran(Budget(least_of(facts) * 2, prices=ONE_PRICE), facts)
    assert {call.task for call in run.placed} == {"propose", "synthesize"}
    assert "round 2 is skipped" in run.refused[0].reason


async def test_a_role_longer_than_foreseen_does_not_cost_the_answer() -> None:
    facts = MixtureFacts(layers=[[seat("a", takes_role=True)]], aggregator=seat("g"))
    run = simulated(Budget(least_of(facts), prices=ONE_PRICE), facts)
    wordy = [ChatMessage(role="system", content="You are careful. " * 60)]
    assert await run.begin(facts.layers[0][0], (1, 0, 0), "propose", wordy) is None
    assert "is left for it" in run.refused[0].reason
    assert await run.finish([]) is not None


async def test_calls_in_flight_are_reserved_for() -> None:
    facts = mixture([["a", "b", "c", "d"]], finish={"name": "vote"})
    run = simulated(Budget(least_of(facts) * 2.5, prices=ONE_PRICE), facts)
    prompts = [ChatMessage(role="user", content="Should a small team write its own deployment tool?")]
    begun = [
        await run.begin(one, (1, index, 0), "propose", prompts) for index, one in enumerate(facts.layers[0])
    ]
    assert sum(call is not None for call in begun) == 2


async def test_an_error_answer_is_not_charged_and_a_cut_call_is() -> None:
    facts = mixture([["a", "b", "c"]])
    run = simulated(Budget(1.0, prices=ONE_PRICE), facts)
    calls = [await run.begin(one, (1, index, 0), "propose", []) for index, one in enumerate(facts.layers[0])]
    first, second, third = (call for call in calls if call is not None)
    await run.policy.after(first, first.missing("overloaded", 503))
    assert run.policy.report().spent_usd == 0
    await run.policy.after(second, second.cut("cut"))
    assert run.policy.report().assumed_usd == pytest.approx((200 * 5 + 128) / 1e6)
    run.policy.noted(second, second.cut("cut"), Usage(prompt_tokens=10, completion_tokens=2), "")
    assert run.policy.report().spent_usd == pytest.approx(20 / 1e6)
    assert run.policy.report().assumed_usd == 0
    run.policy.ended(RuntimeError("cancelled"))
    assert run.policy.report().assumed_usd == pytest.approx((200 * 5 + 128) / 1e6), "the third was out"
    del third


async def test_tokens_nobody_reported_are_estimated_not_taken_for_nothing() -> None:
    facts = mixture([["a"]])
    run = simulated(Budget(1.0, prices=ONE_PRICE), facts)
    call = await run.begin(
        facts.layers[0][0], (1, 0, 0), "propose", [ChatMessage("a question of six words?")]
    )
    assert call is not None
    await run.policy.after(call, Proposal(proposer="a", layer=1, text="yes " * 50))
    assert run.policy.report().spent_usd > 50 * 5 / 1e6


async def test_proposals_that_others_answered_count_as_drafts_and_cost_nothing() -> None:
    facts = mixture([["a"]])
    run = simulated(Budget(1.0, prices=ONE_PRICE), facts)
    call = Call("run", 1, 0, "a", [], Sampling(), identity=facts.layers[0][0].identity)
    record = Proposal(proposer="a", layer=1, text="x" * 100)
    run.policy.noted(call, record, Usage(cost_usd=5.0), "AnswerCache")
    assert run.policy.report().spent_usd == 0
    assert await run.finish([record.text]) is not None


def test_a_budget_serves_many_runs_each_with_limits_of_its_own() -> None:
    facts = mixture()
    budget = Budget(0.02, prices=ONE_PRICE)
    spent = [ran(budget, facts, run_id=f"run-{n}").account.usd for n in range(3)]
    assert all(0 < cost <= 0.02 for cost in spent)
    assert sum(spent) == pytest.approx(budget.spent.usd)
    report = budget.report("run-1")
    assert report is not None
    assert report.spent_usd == pytest.approx(spent[1])
    assert budget.report("another") is None


def test_a_total_that_is_used_up_refuses_the_next_run() -> None:
    facts = mixture([["a"]])
    budget = Budget(total=least_of(facts) * 1.5, prices=ONE_PRICE)
    ran(budget, facts, run_id="first", chance=random.Random(3))
    while budget.spent.usd < least_of(facts) / 2 + 1e-9:
        ran(budget, facts, run_id="more")
    with pytest.raises(ConfigurationError, match=r"total budget .* used up"):
        budget.for_run(start(facts))


def test_a_round_there_is_no_time_for_is_not_begun() -> None:
    clock, facts = Clock(), mixture([["a"], ["a"], ["a"]])
    run = simulated(Budget(seconds=10, clock=clock), facts)
    placed: list[int] = []

    async def go() -> None:
        for layer in (1, 2, 3):
            call = await run.begin(facts.layers[layer - 1][0], (layer, 0, 0), "propose", [])
            if call is not None:
                placed.append(layer)
                clock.now += 3
                await run.policy.after(call, Proposal(proposer="a", layer=layer, text="x", latency_seconds=3))
        assert await run.finish(["x"]) is not None

    asyncio.run(go())
    assert placed == [1, 2]
    assert "6 s of 10 s are over" in run.refused[0].reason
    assert run.policy.report().degraded[0].measure == "skip_refine"


def test_retries_are_counted_as_what_nobody_knows_the_cost_of() -> None:
    run = simulated(Budget(1.0, prices=ONE_PRICE), mixture())
    run.policy.happened(ProgressEvent(kind="retry", layer=1, proposer="a"))
    assert run.policy.report().retries == 1
    assert isinstance(run.policy, RunWatch)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "needs a limit"),
        ({"usd": -1}, "between 0 and"),
        ({"usd": "1"}, "between 0 and"),
        ({"usd": float("nan")}, "between 0 and"),
        ({"tokens": 0}, "whole number >= 1"),
        ({"tokens": 1.5}, "whole number >= 1"),
        ({"seconds": 0}, "number of seconds > 0"),
        ({"usd": 1, "degrade": "skip_refine"}, "must be a list"),
        ({"usd": 1, "degrade": ["skip_refin"]}, "Did you mean 'skip_refine'"),
        ({"usd": 1, "degrade": ["skip_refine", "skip_refine"]}, "twice"),
        ({"seconds": 1, "degrade": ["drop_dearest"]}, "put 'skip_refine' into degrade"),
        ({"usd": 1, "shortest_answer": 0}, "whole number >= 1"),
        ({"usd": 1, "margin": 0.5}, "between 1 and 10"),
        ({"usd": 1, "prices": {"m": 1}}, "USD per million"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Budget(**wrong)


def test_any_question_has_a_bound() -> None:
    for text in ("{} %s \x00", "\ud800", "x" * 1_000_000):
        asking = [ChatMessage(role="user", content=text)]
        Budget(100.0, prices=ONE_PRICE).for_run(start(mixture(), messages=asking))


def test_a_missing_says_nothing_was_asked() -> None:
    facts = mixture()
    run = ran(Budget(least_of(facts) * 2, prices=ONE_PRICE), facts)
    assert run.refused
    assert all(gone.status is None for gone in run.refused)
