"""Limits in whole runs: a hundred prompts at once, overflow, retries, cuts, cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from pydantic import PrivateAttr

from llama_index.packs.mixture_of_agents import MixtureError, MixtureOfAgentsPack, MixtureResponse
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
from llama_index.packs.mixture_of_agents.gate.capped_gate import CappedGate
from llama_index.packs.mixture_of_agents.gate.limits import Limits
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision
from llama_index.packs.mixture_of_agents.gate.rules import RuleGate
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, Proposal
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
from tests.gate.limited_calls import assert_all_is_free, capacity_of
from tests.gate.simulated_time import loop_time, simulated
from tests.gate.test_dispatch import Scored

LONG = 100_000.0


class Timed(LatencyLLM):
    """Remembers when each call came, in the loop's time, and which prompt it was."""

    _came: list[tuple[float, str]] = PrivateAttr(default_factory=list)

    def __init__(self, latency: float, script: Any, model: str) -> None:
        super().__init__(latency, script, model=model)

    @property
    def came(self) -> list[tuple[float, str]]:
        return self._came

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        self._came.append((loop_time(), messages[-1].content or ""))
        response: ChatResponse = await super().achat(messages, **kwargs)
        return response

    def most_within_a_minute(self) -> int:
        return max(sum(begin <= at <= begin + 60 for at, _ in self._came) for begin, _ in self._came)


class Once(Scored):
    """One stage is enough for it, as for gates that read the question alone."""

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        return GateDecision() if proposals else self.decision


def model(name: str, seconds: float = 1.0, script: Any = "an answer") -> Timed:
    return Timed(seconds, script, name)


def pack(models: Sequence[Any], capacity: Capacity, **options: Any) -> MixtureOfAgentsPack:
    given = {"max_retries": 0, "timeout": None, "policies": [capacity], **options}
    return MixtureOfAgentsPack(ScriptedLLM("answer", model="writer"), list(models), 2, **given)


async def asked_at_once(mixture: MixtureOfAgentsPack, prompts: int) -> list[MixtureResponse]:
    return await asyncio.gather(*(mixture.arun(f"question {number:03d}") for number in range(prompts)))


def test_a_hundred_prompts_at_once_keep_to_five_in_flight_and_sixty_a_minute() -> None:
    async def play() -> None:
        capacity = capacity_of({"Timed": Limits(in_flight=5, requests_per_minute=60)})
        asked = model("p")
        responses = await asked_at_once(pack([asked], capacity), 100)
        assert not any(response.degraded for response in responses)
        assert asked.peak_in_flight == 5
        assert asked.most_within_a_minute() == 60
        assert len(asked.came) == 100
        # First come, first served: nobody goes a moment before one who came earlier.
        when = {text[-3:]: at for at, text in asked.came}
        assert [when[f"{number:03d}"] for number in range(100)] == sorted(when.values())
        assert loop_time() < 70
        await assert_all_is_free(capacity)

    simulated(play())


def test_a_hundred_prompts_at_once_overflow_to_the_next_best_in_order() -> None:
    async def play() -> None:
        capacity = capacity_of(
            {"best": Limits(in_flight=5, requests_per_minute=60), "good": Limits(in_flight=3)}
        )
        models = [model("poor"), model("good"), model("best")]
        gate = CappedGate(Once(["best"], {"best": 0.9, "good": 0.8, "poor": 0.1}), capacity)
        responses = await asked_at_once(pack(models, capacity, gate=gate), 100)
        assert [len(one.came) for one in models] == [92, 3, 5]
        assert [one.peak_in_flight for one in models[1:]] == [3, 5]
        assert [len(response.proposals) for response in responses] == [1] * 100
        assert "best has no room" in responses[-1].routed[0].reason
        assert "asked instead: poor" in responses[-1].routed[0].reason
        await assert_all_is_free(capacity)

    simulated(play())


def test_with_everyone_limited_all_wait_in_line_and_all_are_served() -> None:
    async def play() -> None:
        limits = {"best": Limits(5, 60), "good": Limits(5, 60)}
        capacity = capacity_of(limits)
        models = [model("good"), model("best")]
        gate = CappedGate(Once(["best"], {"best": 0.9, "good": 0.8}), capacity)
        responses = await asked_at_once(pack(models, capacity, gate=gate), 100)
        assert not any(response.degraded for response in responses)
        assert sum(len(one.came) for one in models) == 100
        for one in models:
            assert one.peak_in_flight <= 5
            assert one.most_within_a_minute() <= 60
        assert loop_time() < 70
        await assert_all_is_free(capacity)

    simulated(play())


def test_all_over_capacity_after_the_deadline_is_a_clear_error() -> None:
    async def play() -> None:
        capacity = capacity_of({"Timed": Limits(in_flight=1)}, deadline=5.0)
        mixture = pack([model("p", 60.0)], capacity, gate=CappedGate(RuleGate([]), capacity))
        first = asyncio.ensure_future(mixture.arun("first"))
        await asyncio.sleep(1)
        with pytest.raises(MixtureError, match="No proposer has room"):
            await mixture.arun("second")
        assert loop_time() == pytest.approx(6.0, abs=0.1)
        assert (await first).text == "answer"
        await assert_all_is_free(capacity)

    simulated(play())


def test_without_a_gate_who_has_no_room_in_time_is_missing_and_the_others_answer() -> None:
    async def play() -> None:
        capacity = capacity_of({"slow": Limits(in_flight=1)}, deadline=5.0)
        mixture = pack([model("slow", 60.0), model("quick")], capacity)
        first, second = await asked_at_once(mixture, 2)
        assert not first.degraded
        assert [gone.proposer for gone in second.missing] == ["slow"]
        assert "over capacity: 'slow' has 1 of 1 calls in flight" in second.missing[0].reason
        await assert_all_is_free(capacity)

    simulated(play())


class OverloadedError(Exception):
    status_code = 503


def test_further_tries_count_as_requests_and_pass_no_limit() -> None:
    async def play() -> None:
        capacity = capacity_of({"Timed": Limits(requests_per_minute=10)})
        heard: set[str] = set()

        def fails_at_first(messages: Sequence[ChatMessage]) -> str | OverloadedError:
            question = messages[-1].content or ""
            if question in heard:
                return "fine"
            heard.add(question)
            return OverloadedError()

        asked = model("p", script=fails_at_first)
        responses = await asked_at_once(pack([asked], capacity, max_retries=2), 20)
        assert not any(response.degraded for response in responses)
        assert len(asked.came) == 40
        assert asked.most_within_a_minute() <= 10
        await assert_all_is_free(capacity)

    simulated(play())


def test_a_round_that_closes_cuts_calls_out_and_calls_in_line_and_frees_both() -> None:
    async def play() -> None:
        capacity = capacity_of({"Timed": Limits(in_flight=1)})
        mixture = pack([model("a", 50.0), model("b", 50.0), ScriptedLLM("quick", model="q")], capacity,
                       layer_timeout=3.0)  # fmt: skip
        response = await mixture.arun("Why?")
        assert [gone.proposer for gone in response.missing] == ["a", "b"]
        await assert_all_is_free(capacity)

    simulated(play())


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.0, 1.5, 2.0, 3.25, 61.0])
def test_runs_cancelled_at_any_moment_give_everything_back(moment: float) -> None:
    async def play() -> None:
        capacity = capacity_of({"Timed": Limits(2, requests_per_minute=8, tokens_per_minute=50_000)})
        gate = CappedGate(Once(["a", "b"], {}), capacity)
        mixture = pack([model("a"), model("b")], capacity, gate=gate)
        runs = [asyncio.ensure_future(mixture.arun(f"question {number}")) for number in range(12)]
        await asyncio.sleep(moment)
        for run in runs[::2]:
            run.cancel()
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
        assert all(isinstance(outcome, MixtureResponse) for outcome in outcomes[1::2])
        await assert_all_is_free(capacity)

    simulated(play())


def test_a_run_whose_time_is_up_gives_everything_back() -> None:
    async def play() -> None:
        capacity = capacity_of({"Timed": Limits(in_flight=1)})
        mixture = pack([model("a", 50.0), model("b", 50.0)], capacity, timeout=3.0)
        outcomes = await asyncio.gather(*(mixture.arun("Why?") for _ in range(3)), return_exceptions=True)
        assert all(isinstance(outcome, MixtureError) for outcome in outcomes)
        await assert_all_is_free(capacity)

    simulated(play())


class Knowing:
    """A policy that answers every other call from a store, after the limits were asked."""

    async def before(self, call: Call) -> Proposal | None:
        if call.proposer == "known":
            return Proposal(proposer="known", layer=call.layer, text="from the store")
        return None

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        """Nothing to do."""


def test_a_call_answered_from_a_store_takes_nothing() -> None:
    async def play() -> None:
        capacity = capacity_of({"known": Limits(1, 1, 50_000), "Timed": Limits(in_flight=4)})
        gate = CappedGate(Once(["known", "p"]), capacity)
        known, other = model("known"), model("p")
        mixture = pack([known, other], capacity, gate=gate, policies=[capacity, Knowing()])
        for _ in range(3):  # more than one request a minute would have to wait
            await mixture.arun("Why?")
        assert known.came == []
        assert len(other.came) == 3
        assert loop_time() < 5
        await assert_all_is_free(capacity)

    simulated(play())


async def test_limits_hold_in_real_time_too() -> None:
    capacity = Capacity({"LatencyLLM": Limits(in_flight=2)}, deadline=30)
    asked = LatencyLLM(0.01, model="p")
    responses = await asked_at_once(pack([asked], capacity), 12)
    assert not any(response.degraded for response in responses)
    assert asked.peak_in_flight == 2
    assert capacity.use()["LatencyLLM"].in_flight == 0
