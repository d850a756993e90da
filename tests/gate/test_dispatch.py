"""Top-k, capacity, overflow: who is asked where the best have no room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureError
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
from llama_index.packs.mixture_of_agents.gate.capped_gate import CappedDecision, CappedGate
from llama_index.packs.mixture_of_agents.gate.dispatch import Ranking, dispatch, ranked
from llama_index.packs.mixture_of_agents.gate.limits import Limits
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Decision, Proposal, Usage
from tests.gate.limited_calls import (
    Provider,
    assert_all_is_free,
    call,
    capacity_of,
    one_call,
    proposal,
    seat,
    start,
)
from tests.gate.simulated_time import loop_time, settled, simulated

SEATS = [seat("a"), seat("b"), seat("c")]
NAN = float("nan")


class Scored:
    """A gate that always says the same."""

    name = "scored"

    def __init__(self, ask: Sequence[str], scores: dict[str, float] | None = None) -> None:
        self.decision = GateDecision(ask=tuple(ask), scores=scores or {}, reason="as ever")

    def described(self) -> dict[str, Any]:
        return {"name": self.name}

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        return self.decision

    def weights(self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]) -> dict[str, float]:
        return {"a": 2.0}


class Priced:
    """A meter for which every call costs the same."""

    def __init__(self, usd: float) -> None:
        self._usd = usd

    def measured(self, to: Call, text: str, usage: Usage) -> Usage:
        return usage.model_copy(update={"cost_usd": self._usd})


class Judging(Scored):
    def verdict(self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]) -> Decision:
        return Decision(chosen="a", answer="7")


def order(ask: Sequence[str], scores: dict[str, float], top_k: int | None = None, done: str = "") -> Ranking:
    return ranked(GateDecision(ask=tuple(ask), scores=scores), ["a", "b", "c", "d"], set(done), top_k)


def test_first_whom_the_gate_asks_then_the_others_by_score_then_those_without_one() -> None:
    assert order(["c"], {"a": 0.2, "c": 0.1, "d": 0.9}) == Ranking(("c", "d", "a", "b"), 1)
    assert order(["c", "a"], {"d": 0.9}, done="c") == Ranking(("a", "d", "b"), 1)
    assert order(["a"], {}, top_k=3).top_k == 3
    assert order(["a"], {}, top_k=9).top_k == 4


@pytest.mark.parametrize("score", [NAN, float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_the_worst_even_of_one_asked_for(score: float) -> None:
    assert order(["a", "b"], {"a": score, "b": 0.5, "c": 0.4}) == Ranking(("b", "c", "d", "a"), 2, ("a",))


@given(
    ask=st.lists(st.sampled_from("abcd"), min_size=1),
    scores=st.dictionaries(st.sampled_from("abcd"), st.floats()),
    full=st.sets(st.sampled_from("abcd")),
    top_k=st.none() | st.integers(1, 5),
)
def test_the_best_with_room_are_asked_as_many_as_there_are(
    ask: list[str], scores: dict[str, float], full: set[str], top_k: int | None
) -> None:
    ranking = order(ask, scores, top_k)
    placed = dispatch(ranking, lambda name: "full" if name in full else "")
    able = [name for name in ranking.names if name not in full]
    assert list(placed.asked) == able[: ranking.top_k]
    assert set(placed.overflowed) == set(ranking.names[: ranking.top_k]) & full
    assert set(placed.stand_ins) == set(placed.asked) - set(ranking.names[: ranking.top_k])
    assert sorted(ranking.names) == list("abcd")


def test_nobody_is_taken_room_for_who_is_not_asked() -> None:
    tried: list[str] = []

    def lacks(name: str) -> str:
        tried.append(name)
        return "full" if name == "a" else ""

    dispatch(Ranking(("a", "b", "c"), 1), lacks)
    assert tried == ["a", "b"]


async def decided(gate: CappedGate, proposals: Sequence[Proposal] = ()) -> CappedDecision:
    decision = await gate.decide([ChatMessage(content="Why?")], SEATS, proposals)
    assert isinstance(decision, CappedDecision)
    return decision


def test_whoever_has_no_room_overflows_to_the_next_best_and_the_decision_says_so() -> None:
    async def play() -> None:
        capacity = capacity_of({"a": Limits(in_flight=1)})
        busy, part = (capacity.for_run(start(name)) for name in ("busy", "run"))
        assert await busy.before(call("busy", model="a")) is None
        gate = CappedGate(Scored(["a"], {"a": 0.9, "b": 0.2, "c": 0.6}), capacity)
        decision = await decided(gate)
        assert decision.ask == ("c",)
        assert decision.overflowed == ("a",)
        assert decision.reason == (
            "as ever; a has no room ('a' has 1 of 1 calls in flight); asked instead: c"
        )
        part.ended(asyncio.CancelledError())

    simulated(play())


def test_with_room_for_all_the_decision_is_the_gates_and_scores_are_numbers() -> None:
    async def play() -> None:
        capacity = capacity_of({"a": Limits(in_flight=1)})
        capacity.for_run(start())
        decision = await decided(CappedGate(Scored(["a", "b"], {"a": 0.9, "c": NAN}), capacity))
        assert decision.ask == ("a", "b")
        assert decision.overflowed == ()
        assert decision.scores == {"a": 0.9}
        assert decision.reason == "as ever; no usable score, so ranked last: c"

    simulated(play())


def test_prompts_at_once_do_not_all_see_the_same_room() -> None:
    async def play() -> None:
        capacity = capacity_of({"a": Limits(in_flight=2), "b": Limits(in_flight=3)})
        gate = CappedGate(Scored(["a"], {"b": 0.5, "c": 0.1}), capacity)

        async def one(number: int) -> tuple[str, ...]:
            part = capacity.for_run(start(str(number)))
            asked = (await decided(gate)).ask
            await asyncio.sleep(5)  # the room is held until the call comes
            part.ended(asyncio.CancelledError())
            return asked

        asked = await asyncio.gather(*(asyncio.ensure_future(one(number)) for number in range(10)))
        assert asked == [("a",)] * 2 + [("b",)] * 3 + [("c",)] * 5
        await assert_all_is_free(capacity)

    simulated(play())


def test_the_call_takes_over_what_the_gate_held_for_it() -> None:
    async def play() -> None:
        capacity = capacity_of({"a": Limits(1, 5, 1000)})
        part = capacity.for_run(start())
        await decided(CappedGate(Scored(["a"]), capacity))
        assert capacity.use()["a"].in_flight == 1
        to = call(model="a", text="x" * 400, max_tokens=100)
        assert await part.before(to) is None
        use = capacity.use()["a"]
        assert (use.in_flight, use.requests, use.tokens) == (1, 1, 200)
        part.sent(to)
        await part.after(to, proposal(to, 150))
        assert capacity.use()["a"].in_flight == 0
        await assert_all_is_free(capacity)

    simulated(play())


def test_what_a_gate_held_for_calls_that_do_not_come_is_given_back() -> None:
    async def play() -> None:
        capacity = capacity_of({"a": Limits(1, 1, 1000)})
        part = capacity.for_run(start())
        gate = CappedGate(Scored(["a"]), capacity)
        for _ in range(3):
            assert (await decided(gate)).ask == ("a",)  # each decision lets go of the one before
        part.ended(asyncio.CancelledError())
        await assert_all_is_free(capacity)

    simulated(play())


def test_a_call_that_needs_more_than_was_held_stays_before_those_who_came_later() -> None:
    async def play() -> None:
        capacity = capacity_of({"a": Limits(tokens_per_minute=100)})
        part = capacity.for_run(start())
        await decided(CappedGate(Scored(["a"]), capacity))
        later = capacity.for_run(start("later"))
        waits = asyncio.ensure_future(later.before(call("later", model="a", max_tokens=95)))
        await settled()
        assert capacity.waiting() == 1
        assert await asyncio.wait_for(part.before(call(model="a", max_tokens=60)), 1) is None
        assert not waits.done()

    simulated(play())


@pytest.mark.parametrize("how", ["the answer is written", "it was in a checkpoint"])
def test_what_was_held_for_a_call_that_never_asks_is_given_back(how: str) -> None:
    async def play() -> None:
        capacity = capacity_of({"a": Limits(in_flight=1)})
        part = capacity.for_run(start())
        await decided(CappedGate(Scored(["a"]), capacity))
        assert capacity.use()["a"].in_flight == 1
        to = call(model="a")
        if how == "the answer is written":
            assert await part.before(replace(call(model="writer"), task="synthesize")) is None
        else:
            part.noted(to, proposal(to), Usage(), "Checkpoint")
        assert capacity.use()["a"].in_flight == 0

    simulated(play())


def test_who_was_called_in_this_round_is_not_taken_room_for_again() -> None:
    async def play() -> None:
        capacity = capacity_of({"a": Limits(in_flight=1)})
        part = capacity.for_run(start())
        gate = CappedGate(Scored(["a"]), capacity)
        part.asks(call(model="a"))  # it failed: there is no proposal of it
        assert (await gate.decide([], SEATS, [])).ask == ("a",)  # whoever asks knows
        assert capacity.use()["a"].in_flight == 0
        part.happened(ProgressEvent(kind="round", layer=2))
        await decided(gate)
        assert capacity.use()["a"].in_flight == 1

    simulated(play())


@pytest.mark.parametrize(("free", "asked"), [("a", "a"), ("cb", "b"), ("c", "c")])
def test_all_over_capacity_waits_for_whoever_has_room_first_and_of_two_the_better(
    free: str, asked: str
) -> None:
    async def play() -> None:
        capacity = capacity_of({name: Limits(in_flight=1) for name in "abc"})
        busy = capacity.for_run(start("busy"))
        calls = {name: call("busy", index, name) for index, name in enumerate("abc")}
        for one in calls.values():
            assert await busy.before(one) is None
        parts = []

        async def decide() -> CappedDecision:
            parts.append(capacity.for_run(start()))
            return await decided(CappedGate(Scored(["b"], {"a": 0.9}), capacity))

        waits = asyncio.ensure_future(decide())
        await asyncio.sleep(7)
        assert not waits.done()
        for name in free:
            await busy.after(calls[name], proposal(calls[name]))
        decision = await waits
        assert decision.ask == (asked,)
        assert f"{asked} was waited for" in decision.reason
        assert ("b" in decision.overflowed) == (asked != "b")
        await settled()
        assert capacity.waiting() == 0
        taken = {name for name, use in capacity.use().items() if use.in_flight}
        assert taken == ({*"abc"} - {*free}) | {asked}
        parts[0].ended(asyncio.CancelledError())
        busy.ended(asyncio.CancelledError())
        await assert_all_is_free(capacity)

    simulated(play())


def test_nobody_is_refused_while_somebody_has_room() -> None:
    async def play() -> None:
        capacity = capacity_of({name: Limits(1, 8) for name in "abc"}, deadline=10.0)
        provider = Provider()

        async def one(number: int) -> str:
            part = capacity.for_run(start(f"run {number}"))
            (name,) = (await decided(CappedGate(Scored(["b"], {"a": 0.9}), capacity))).ask
            assert await one_call(part, provider, call(f"run {number}", model=name))
            return name

        asked = await asyncio.gather(*(asyncio.create_task(one(number)) for number in range(24)))
        assert sorted(asked) == sorted("abc" * 8)
        assert max(provider.peak.values()) == 1
        await assert_all_is_free(capacity)

    simulated(play())


@pytest.mark.parametrize("after", [0.0, 1.0, 3.0])
def test_who_waits_for_several_and_is_cancelled_holds_nothing(after: float) -> None:
    async def play() -> None:
        capacity = capacity_of({name: Limits(in_flight=1) for name in "abc"})
        busy = capacity.for_run(start("busy"))
        for index, name in enumerate("abc"):
            assert await busy.before(call("busy", index, name)) is None

        async def decide() -> CappedDecision:
            capacity.for_run(start())
            return await decided(CappedGate(Scored(["b"]), capacity))

        waits = asyncio.ensure_future(decide())
        await asyncio.sleep(after)
        busy.ended(asyncio.CancelledError())  # in the same moment as
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        await assert_all_is_free(capacity)

    simulated(play())


def test_who_has_a_share_of_a_budget_is_not_waited_for_beside_others() -> None:
    async def play() -> None:
        limits = {"a": Limits(in_flight=1, budget_share=1.0), "b": Limits(in_flight=1, budget_share=1.0)}
        capacity = capacity_of(limits, budget=1.0)
        meter = Priced(0.4)
        busy = capacity.for_run(start("busy", meter=meter))
        for index, name in enumerate("ab"):
            assert await busy.before(call("busy", index, name)) is None

        async def decide() -> CappedDecision:
            capacity.for_run(start(meter=meter))
            gate = CappedGate(Scored(["b"]), capacity)
            decision = await gate.decide([ChatMessage(content="Why?")], SEATS[:2], [])
            assert isinstance(decision, CappedDecision)
            return decision

        waits = asyncio.ensure_future(decide())
        await settled()
        assert capacity.use()["a"].usd == pytest.approx(0.4)
        assert capacity.use()["b"].usd == pytest.approx(0.8)
        await busy.after(call("busy", 1, "b"), proposal(call("busy", 1, "b")))
        assert (await waits).ask == ("b",)

    simulated(play())


@pytest.mark.parametrize(("wait", "after"), [(True, 4.0), (False, 0.0)])
def test_all_over_capacity_is_an_error_after_the_deadline_or_at_once(wait: bool, after: float) -> None:
    async def play() -> None:
        capacity = capacity_of({"Provider": Limits(in_flight=1)}, deadline=4.0)
        busy, part = capacity.for_run(start("busy")), capacity.for_run(start())
        assert await busy.before(call("busy")) is None
        with pytest.raises(
            MixtureError, match=r"No proposer has room .*'Provider' has 1 of 1 calls in flight"
        ):
            await decided(CappedGate(Scored(["a"]), capacity, wait=wait))
        assert loop_time() == pytest.approx(after)
        busy.ended(asyncio.CancelledError())
        part.ended(asyncio.CancelledError())
        await assert_all_is_free(capacity)

    simulated(play())


def test_where_waiting_would_not_help_nobody_waits() -> None:
    async def play() -> None:
        capacity = capacity_of({"Provider": Limits(tokens_per_minute=5)})
        capacity.for_run(start())
        with pytest.raises(MixtureError, match="waiting would not help"):
            await decided(CappedGate(Scored(["a"]), capacity))
        assert loop_time() == 0.0

    simulated(play())


def test_with_answers_there_nobody_is_asked_further_rather_than_the_run_lost() -> None:
    async def play() -> None:
        capacity = capacity_of({"Provider": Limits(in_flight=1)}, deadline=1.0)
        busy = capacity.for_run(start("busy"))
        assert await busy.before(call("busy")) is None
        capacity.for_run(start())
        decision = await decided(CappedGate(Scored(["b"]), capacity), [proposal(call(model="a"))])
        assert decision.ask == ()
        assert decision.overflowed == ("b",)
        assert "the answers that are there have to do" in decision.reason

    simulated(play())


def test_a_gate_that_has_enough_is_left_alone() -> None:
    async def play() -> None:
        capacity = capacity_of({"Provider": Limits(in_flight=1)})
        capacity.for_run(start())
        gate = CappedGate(Scored([]), capacity)
        assert await gate.decide([], SEATS, [proposal(call(model="a"))]) == Scored([]).decision
        unknown = CappedGate(Scored(["z"]), capacity)
        assert (await unknown.decide([], SEATS, [])).ask == ("z",)  # whoever asks refuses it

    simulated(play())


def test_a_decision_cancelled_while_it_waits_holds_nothing() -> None:
    async def play() -> None:
        capacity = capacity_of({"Provider": Limits(in_flight=1)})
        busy = capacity.for_run(start("busy"))
        assert await busy.before(call("busy")) is None

        async def one() -> None:
            capacity.for_run(start())
            await decided(CappedGate(Scored(["a"]), capacity))

        waits = asyncio.ensure_future(one())
        await settled()
        assert capacity.waiting() == 1
        busy.ended(asyncio.CancelledError())  # in the same moment as
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        await assert_all_is_free(capacity)

    simulated(play())


async def test_a_capacity_that_takes_no_part_in_the_run_is_refused() -> None:
    gate = CappedGate(Scored(["a"]), Capacity({"a": Limits(1)}))
    with pytest.raises(ConfigurationError, match=r"policies=\[capacity\]"):
        await gate.decide([], SEATS, [])


def test_votes_and_verdicts_are_the_other_gates() -> None:
    capacity = Capacity({"a": Limits(1)})
    plain, judging = CappedGate(Scored(["a"]), capacity, 2), CappedGate(Judging(["a"]), capacity)
    assert plain.weights([], []) == {"a": 2.0}
    assert plain.verdict([], []) is None
    assert judging.verdict([], []) == Decision(chosen="a", answer="7")
    assert plain.described() == {"name": "capped", "gate": {"name": "scored"}, "top_k": 2, "wait": True}


def test_what_is_no_gate_no_capacity_and_no_number_is_refused() -> None:
    capacity: Any = Capacity({"a": Limits(1)})
    gate: Any = Scored(["a"])
    for wrong, said in [
        ((object(), capacity), "gate must be a gate"),
        ((gate, {"a": 1}), "capacity must be a Capacity"),
        ((gate, capacity, 0), "top_k must be a whole number >= 1"),
        ((gate, capacity, 1.5), "top_k must be"),
    ]:
        with pytest.raises(ConfigurationError, match=said):
            CappedGate(*wrong)
