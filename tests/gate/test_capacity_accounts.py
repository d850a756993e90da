"""What limits count: tokens, requests, money, and whom a pattern means; what cannot work is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
from llama_index.packs.mixture_of_agents.gate.limits import Limits
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Usage
from tests.gate.limited_calls import (
    assert_all_is_free,
    call,
    capacity_of,
    identity,
    proposal,
    seat,
    start,
)
from tests.gate.simulated_time import loop_time, simulated


def test_tokens_are_reserved_as_estimated_and_settled_as_used() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(tokens_per_minute=1000)})
        part = capacity.for_run(start())
        to = call(text="é" * 100, max_tokens=200)  # 200 bytes are 50 tokens
        assert await part.before(to) is None
        assert capacity.use()["m"].tokens == 250
        assert capacity.room(identity(), "m", tokens=250) == 3
        part.sent(to)
        await part.after(to, proposal(to, 70))
        assert capacity.use()["m"].tokens == 70
        await assert_all_is_free(capacity)

    simulated(play())


def test_what_a_call_used_is_unknown_so_it_counts_as_estimated_and_an_error_as_nothing() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(tokens_per_minute=1000)})
        part = capacity.for_run(start())
        outcomes: list[Proposal | Missing] = [
            proposal(call()),
            call().missing("cut"),
            call().missing("no", 500),
        ]
        for index, outcome in enumerate(outcomes):
            to = call(index=index, max_tokens=100)
            assert await part.before(to) is None
            part.sent(to)
            await part.after(to, outcome)
        assert capacity.use()["m"].tokens == 200

    simulated(play())


class Counting:
    """A meter that has counted, and knows a price."""

    def __init__(self, price: float | None) -> None:
        self.price = price

    def measured(self, to: Call, text: str, usage: Usage) -> Usage:
        if usage.prompt_tokens is None:
            usage = usage.model_copy(update={"prompt_tokens": 77})
        tokens = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
        return usage.model_copy(update={"cost_usd": None if self.price is None else tokens * self.price})


def test_a_meter_is_believed_where_it_counts_more() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(tokens_per_minute=1000)})
        part = capacity.for_run(start(meter=Counting(None)))
        assert await part.before(call(text="four", max_tokens=3)) is None
        assert capacity.use()["m"].tokens == 80

    simulated(play())


def test_a_share_of_the_budget_is_never_passed() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(budget_share=0.5)}, budget=2.0)
        part = capacity.for_run(start("a", meter=Counting(0.01)))
        calls = [call("a", index, text="", max_tokens=3) for index in range(3)]  # 80 tokens, $0.80
        assert await part.before(calls[0]) is None
        held = await part.before(calls[1])
        assert isinstance(held, Missing)
        assert "share of $1 in the budget of a run" in held.reason
        await part.after(calls[0], proposal(calls[0], 10, cost=0.1))
        assert await part.before(calls[1]) is None
        other = capacity.for_run(start("b", meter=Counting(0.01)))
        assert await other.before(call("b", max_tokens=3)) is None  # another run has a budget of its own

    simulated(play())


def test_all_runs_share_what_is_for_all() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(budget_share=1.0)}, total=1.0)
        one, two = (capacity.for_run(start(name, meter=Counting(0.01))) for name in "ab")
        assert await one.before(call("a", max_tokens=3)) is None
        assert isinstance(await two.before(call("b", max_tokens=3)), Missing)
        one.ended(asyncio.CancelledError())  # it was never sent
        assert await two.before(call("b", max_tokens=3)) is None

    simulated(play())


def test_who_has_a_share_and_no_known_price_is_refused_and_nobody_else_is() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(budget_share=0.5), "n": Limits(in_flight=1)}, budget=1.0)
        part = capacity.for_run(start(meter=Counting(None)))
        refused = await part.before(call())
        assert isinstance(refused, Missing)
        assert "nobody knows what this call costs" in refused.reason
        assert await part.before(call(index=1, model="n")) is None

    simulated(play())


def test_what_could_never_go_is_refused_at_once() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(tokens_per_minute=100)})
        refused = await capacity.for_run(start()).before(call(max_tokens=101))
        assert isinstance(refused, Missing)
        assert "'m' takes 100 tokens a minute, and this call may take 101" in refused.reason
        assert loop_time() == 0.0

    simulated(play())


def test_further_tries_are_promised_before_and_given_back_after() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(requests_per_minute=5)})
        part = capacity.for_run(start(max_retries=2))
        assert await part.before(call()) is None
        assert capacity.use()["m"].requests == 3
        part.sent(call())
        part.sent(call())
        await part.after(call(), proposal(call()))
        assert capacity.use()["m"].requests == 2
        await assert_all_is_free(capacity)

    simulated(play())


def test_a_call_of_which_nobody_says_that_it_went_out_took_a_request_if_it_was_answered() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(1, 9, 100)})
        part = capacity.for_run(start(max_retries=2))
        assert await part.before(call()) is None
        await part.after(call(), call().missing("cut while it waited for a slot"))
        assert (capacity.use()["m"].requests, capacity.use()["m"].tokens) == (0, 0)
        assert await part.before(call(index=1)) is None
        await part.after(call(index=1), proposal(call(index=1), 4))
        assert (capacity.use()["m"].requests, capacity.use()["m"].tokens) == (1, 4)

    simulated(play())


def test_patterns_mean_classes_models_and_names() -> None:
    async def play() -> None:
        limits = {
            "Provider(a)": Limits(in_flight=1),
            "Prov*(b*)": Limits(in_flight=2),
            "Provider": Limits(in_flight=3),
            "Sam": Limits(in_flight=4),
        }
        capacity = capacity_of(limits)
        assert capacity.room(identity("a")) == 1
        assert capacity.room(identity("bee")) == 2
        assert capacity.room(identity("c")) == 3
        assert capacity.room(seat("Sam", "c")) == 3
        assert capacity.room(identity("c").model_copy(update={"class_name": "X"}), "Sam") == 4
        assert capacity.room(identity("c").model_copy(update={"class_name": "X"})) == float("inf")

    simulated(play())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Limits(), "limits nothing"),
        (lambda: Limits(in_flight=0), "in_flight must be a whole number >= 1"),
        (lambda: Limits(requests_per_minute=1.5), "requests_per_minute"),  # type: ignore[arg-type]
        (lambda: Limits(tokens_per_minute=True), "tokens_per_minute"),
        (lambda: Limits(budget_share=1.1), "budget_share must be a number between 0 and 1"),
        (lambda: Limits(budget_share=float("nan")), "budget_share"),
        (lambda: Capacity({}), "limits must be a mapping"),
        (lambda: Capacity({"": Limits(1)}), "found the key ''"),
        (lambda: Capacity({"m": 5}), "found 5 for 'm'"),  # type: ignore[dict-item]
        (lambda: Capacity([Limits(1)]), "limits must be a mapping"),  # type: ignore[arg-type]
        (lambda: Capacity({"m": Limits(1)}, deadline=-1), "deadline must be"),
        (lambda: Capacity({"m": Limits(1)}, deadline=float("inf")), "deadline must be"),
        (lambda: Capacity({"m": Limits(budget_share=0.5)}), "but of what"),
        (lambda: Capacity({"m": Limits(1)}, budget=float("nan")), "budget must be"),
    ],
)
def test_what_cannot_work_is_refused_at_the_door(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()


def test_more_tries_than_a_minute_has_requests_are_refused_before_any_call() -> None:
    capacity = Capacity({"m": Limits(requests_per_minute=2)})
    with pytest.raises(ConfigurationError, match="max_retries=1 or less"):
        capacity.for_run(start(max_retries=2))
    capacity.for_run(start(max_retries=1))
    capacity.for_run(start(names=["somebody else"], max_retries=2))
