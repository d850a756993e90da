"""A gate decides whom to ask, stage by stage; with none, everyone is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents import (
    ConfigurationError,
    MixtureError,
    MixtureOfAgentsPack,
    ProgressEvent,
)
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.finishes import Vote
from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
from llama_index.packs.mixture_of_agents.gate.capped_gate import CappedGate
from llama_index.packs.mixture_of_agents.gate.limits import Limits
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision
from llama_index.packs.mixture_of_agents.gate.rules import RuleGate
from llama_index.packs.mixture_of_agents.results import Decision, Proposal
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

NAN, INF = float("nan"), float("inf")


class Stages:
    """A gate that asks one group after another, until it has so many answers."""

    name = "stages"

    def __init__(self, *groups: Sequence[str], enough: int = 99, weights: dict[str, float] | None = None):
        self._groups, self._enough, self._weights = groups, enough, weights
        self.seen: list[list[str]] = []

    def described(self) -> dict[str, Any]:
        return {"name": self.name}

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        there = [proposal.proposer for proposal in proposals]
        self.seen.append(there)
        if len(there) >= self._enough:
            return GateDecision(reason="enough", confidence=0.9)
        left = [group for group in self._groups if not set(group) <= set(there)]
        return GateDecision(ask=tuple(left[0]) if left else (), reason="more")

    def weights(
        self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
    ) -> dict[str, float] | None:
        return self._weights


def models(*texts: str) -> list[ScriptedLLM]:
    return [ScriptedLLM(text, model=f"p{n}") for n, text in enumerate(texts)]


def gated(gate: Any, proposers: Any, layers: int = 2, **options: Any) -> MixtureOfAgentsPack:
    aggregator = ScriptedLLM("answer", model="g")
    return MixtureOfAgentsPack(aggregator, proposers, layers, gate=gate, max_retries=0, **options)


async def test_only_those_are_asked_whom_the_gate_names_and_the_others_are_not_missing() -> None:
    proposers = models("a", "b", "c")
    response = await gated(Stages(["p2", "p0"], enough=1), proposers).arun("Why?")
    assert [len(model.calls) for model in proposers] == [1, 0, 1]
    assert [proposal.proposer for proposal in response.proposals] == ["p0", "p2"]
    assert not response.degraded
    assert [routing.asked for routing in response.routed] == [["p2", "p0"], []]
    assert response.routed[1].confidence == 0.9


async def test_a_cascade_asks_the_next_with_the_answers_so_far_and_in_the_end_all_stand_in_order() -> None:
    proposers = models("a", "b", "c")
    gate = Stages(["p2"], ["p1"], ["p0"])
    response = await gated(gate, proposers).arun("Why?")
    assert gate.seen == [[], ["p2"], ["p2", "p1"]]
    assert [proposal.proposer for proposal in response.proposals] == ["p0", "p1", "p2"]


async def test_every_round_is_gated_anew_and_later_stages_read_the_round_before() -> None:
    proposers = models("a", "b")
    response = await gated(Stages(["p0"], ["p1"]), proposers, layers=3).arun("Why?")
    assert [(p.layer, p.proposer) for p in response.proposals] == [(1, "p0"), (1, "p1"), (2, "p0"), (2, "p1")]
    assert proposers[1].calls[1].text.count("end of draft") == 2
    assert "draft" not in proposers[1].calls[0].text


async def test_a_stage_that_fails_is_missing_and_the_gate_goes_on() -> None:
    proposers = [ScriptedLLM(lambda _: ValueError("down"), model="p0"), *models("x", "b")[1:]]
    response = await gated(Stages(["p0"], ["p1"], enough=1), proposers).arun("Why?")
    assert [gone.proposer for gone in response.missing] == ["p0"]
    assert response.routed[1].asked == []


async def test_a_gate_that_asks_nobody_leaves_the_aggregator_alone() -> None:
    proposers = models("a", "b")
    response = await gated(Stages(), proposers).arun("Why?")
    assert response.text == "answer"
    assert [len(model.calls) for model in proposers] == [0, 0]


async def test_a_vote_counts_as_the_gate_trusts() -> None:
    gate = Stages(["p0", "p1", "p2"], enough=1, weights={"p0": 5.0, "p1": 1.0, "p2": 1.0})
    pack = gated(gate, models("1", "2", "2"), finish=Vote("number"))
    assert (await pack.arun("Why?")).text == "1"
    own = gated(gate, models("1", "2", "2"), finish=Vote("number", weights={"p1": 1.0}))
    assert (await own.arun("Why?")).text == "2"


async def test_a_gate_that_fails_asks_everyone_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Stages):
        async def decide(self, *args: Any) -> GateDecision:
            raise LookupError("no features today")

    response = await gated(Broken(), models("a", "b")).arun("Why?")
    assert len(response.proposals) == 2
    assert "no features today" in response.routed[0].reason
    assert "no features today" in caplog.text


@pytest.mark.parametrize(
    "said", [None, ("p0",), {"ask": ["p0"]}, GateDecision.model_construct(ask=[["p0"]], scores={}, reason="")]
)
async def test_a_gate_that_says_no_decision_has_failed(said: Any) -> None:
    class Odd(Stages):
        async def decide(self, *args: Any) -> GateDecision:
            return said  # type: ignore[no-any-return]

    response = await gated(Odd(), models("a", "b")).arun("Why?")
    assert len(response.proposals) == 2
    assert "the gate failed" in response.routed[0].reason


async def test_a_gate_that_cancels_itself_has_failed_and_nobody_waits_for_it() -> None:
    class Gone(Stages):
        async def decide(self, *args: Any) -> GateDecision:
            raise asyncio.CancelledError

    response = await gated(Gone(), models("a", "b"), timeout=20).arun("Why?")
    assert len(response.proposals) == 2
    assert "cancelled from within" in response.routed[0].reason


async def test_a_run_that_is_cancelled_while_its_gate_decides_ends_at_once() -> None:
    ends: list[str] = []

    class Slow(Stages):
        async def decide(self, *args: Any) -> GateDecision:
            try:
                await asyncio.sleep(600)
            finally:
                ends.append("gate")
            return GateDecision()

    run = asyncio.ensure_future(gated(Slow(), models("a", "b")).arun("Why?"))
    await asyncio.sleep(0.2)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ends == ["gate"]


async def test_scores_that_are_no_numbers_are_not_told() -> None:
    class Lost(Stages):
        async def decide(self, *args: Any) -> GateDecision:
            return GateDecision(ask=("p1",), scores={"p0": NAN, "p1": 0.5, "p2": -INF}, confidence=NAN)

    response = await gated(Lost(), models("a", "b", "c")).arun("Why?")
    assert [(routing.scores, routing.confidence) for routing in response.routed] == [({"p1": 0.5}, None)] * 2
    json.dumps(response.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "weights", [{"p0": -1.0}, {"p0": NAN}, {"p0": "5"}, [5.0], LookupError("none today")]
)
async def test_weights_that_are_none_cost_no_answer(weights: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Stages):
        def weights(self, *args: Any) -> dict[str, float] | None:
            if isinstance(weights, Exception):
                raise weights
            return weights  # type: ignore[no-any-return]

    pack = gated(Odd(["p0", "p1", "p2"], enough=1), models("1", "2", "2"), finish=Vote("number"))
    assert (await pack.arun("Why?")).text == "2"
    assert "heads are counted" in caplog.text


@pytest.mark.parametrize("verdict", [Decision(chosen="p7", answer="7"), 7, LookupError("none today")])
async def test_a_verdict_that_is_none_costs_no_answer(verdict: Any) -> None:
    class Odd(Stages):
        def verdict(self, *args: Any) -> Decision | None:
            if isinstance(verdict, Exception):
                raise verdict
            return verdict  # type: ignore[no-any-return]

    gate = Odd(["p0", "p1", "p2"], enough=1, weights={"p0": 5.0})
    assert (await gated(gate, models("1", "2", "2"), finish=Vote("number")).arun("Why?")).text == "1"


async def test_a_gate_for_other_proposers_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="The gate asks for 'stranger'"):
        await gated(Stages(["stranger"]), models("a", "b")).arun("Why?")


async def test_a_gate_that_knows_no_way_ends_the_run_with_its_word() -> None:
    class Full(Stages):
        async def decide(self, *args: Any) -> GateDecision:
            raise MixtureError("all are over capacity")

    with pytest.raises(MixtureError, match="all are over capacity"):
        await gated(Full(), models("a")).arun("Why?")


async def test_what_the_gate_says_is_told_as_it_happens() -> None:
    items = [item async for item in gated(Stages(["p1"], enough=1), models("a", "b")).astream("Why?")]
    told = [event for event in items if isinstance(event, ProgressEvent) and event.kind == "routed"]
    assert [(event.layer, event.proposer, event.reason) for event in told] == [
        (1, "p1", "more"),
        (1, "", "enough"),
    ]


@pytest.mark.parametrize("gate", ["cascade", 3, object(), Stages])
def test_what_is_no_gate_is_refused(gate: Any) -> None:
    with pytest.raises(ConfigurationError, match="gate must be"):
        gated(gate, models("a"))


@pytest.mark.parametrize("layers", [2, 3])
def test_proposers_a_gate_was_not_made_for_are_refused_before_any_call(layers: int) -> None:
    proposers = models("a", "b")
    rules = RuleGate([{"ask": ["nobody"], "words": ["why"]}])
    for gate in (rules, CappedGate(rules, Capacity({"*": Limits(in_flight=1)}))):
        with pytest.raises(ConfigurationError, match="nobody"):
            gated(gate, proposers, layers)
    assert all(not model.calls for model in proposers)
