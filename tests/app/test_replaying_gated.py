"""A gated run in its trace, and asked again: the same are asked, and the same answer stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents import MixtureError, MixtureOfAgentsPack, ProgressEvent
from llama_index.packs.mixture_of_agents.app.accounts import account
from llama_index.packs.mixture_of_agents.app.replaying import replay_of
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision
from llama_index.packs.mixture_of_agents.records.trace import Trace
from llama_index.packs.mixture_of_agents.records.traces.reading import open_trace
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord
from llama_index.packs.mixture_of_agents.results import MixtureResponse, Proposal
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.app.recorded_runs import speaker

NAMES = ("ann", "bob", "cid", "dan")


class Climbing:
    """Asks two, then one more at a time while the texts say nothing it likes; trusts one above the others."""

    name = "climbing"

    def __init__(self, trusted: str = "bob") -> None:
        self._trusted = trusted

    def described(self) -> dict[str, Any]:
        return {"name": self.name, "trusted": self._trusted}

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        there = {proposal.proposer for proposal in proposals}
        left = [seat.name for seat in candidates if seat.name not in there]
        if not there:
            return GateDecision(ask=("cid", "bob"), scores={"cid": 0.9}, reason="two first")
        wants = any(proposal.text.endswith("1") for proposal in proposals) and len(there) < 3
        return GateDecision(ask=tuple(left[:1]) if wants else (), confidence=0.75, reason="by the texts")

    def weights(
        self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
    ) -> dict[str, float] | None:
        return {self._trusted: 9.0}


class Lost(Climbing):
    """Knows nobody."""

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        raise MixtureError("nobody is free")


def run_traced(folder: Path, gate: Any = None, fails: float = 0.0, **options: Any) -> MixtureResponse:
    models = [speaker(name, fails) for name in NAMES]
    pack = MixtureOfAgentsPack(
        speaker("judge"),
        models,
        trace=Trace(folder / "run.jsonl"),
        gate=gate or Climbing(),
        max_retries=0,
        **{"num_layers": 3, "max_concurrency": 1, **options},
    )
    return pack.run("Why?")


def record(folder: Path) -> RunRecord:
    found = open_trace(folder / "run.jsonl")
    assert found.problems == []
    return found.runs[-1]


def test_a_trace_tells_what_the_gate_decided_when_it_did(tmp_path: Path) -> None:
    response = run_traced(tmp_path)
    assert len(response.routed) >= 4
    assert record(tmp_path).routed == response.routed
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert kinds.index("routed") < kinds.index("call_asked")


def test_what_was_redacted_is_not_in_the_gates_reasons(tmp_path: Path) -> None:
    models = [speaker(name) for name in NAMES]
    trace = Trace(tmp_path / "run.jsonl", redact=True)
    MixtureOfAgentsPack(speaker("judge"), models, trace=trace, gate=Climbing()).run("Why?")
    assert "by the texts" not in (tmp_path / "run.jsonl").read_text()


def test_an_account_of_the_run_says_whom_the_gate_asked(tmp_path: Path) -> None:
    run_traced(tmp_path)
    told = [line.text for line in account(record(tmp_path))]
    assert "the gate asks cid, bob: two first" in told
    assert any(line.startswith("the gate has enough (75% sure)") for line in told)


@pytest.mark.parametrize("finish", ["synthesize", "vote", "rank"])
@pytest.mark.parametrize("fails", [0.0, 0.3])
def test_a_gated_run_is_replayed_to_the_same_answer_with_no_calls(
    tmp_path: Path, finish: str, fails: float
) -> None:
    response = run_traced(tmp_path, fails=fails, finish=finish)
    replay = replay_of(record(tmp_path), strict=True)
    for again in (replay.run(), replay.run()):
        assert (again.text, again.decision) == (response.text, response.decision)
        assert again.routed == response.routed
        assert [p.text for p in again.proposals] == [p.text for p in response.proposals]
    assert replay.going.usages == []


def test_a_vote_that_the_gate_weighed_is_not_counted_by_heads(tmp_path: Path) -> None:
    """Two say 0 and the gate trusts the third; its weights are not in the record, the decision is."""
    texts = {"ann": "The answer is 0", "bob": "The answer is 1", "cid": "The answer is 0"}
    models = [ScriptedLLM(text, model=name) for name, text in texts.items()]
    trace = Trace(tmp_path / "run.jsonl")
    pack = MixtureOfAgentsPack(speaker("judge"), models, 2, trace=trace, gate=Climbing(), finish="vote")
    assert pack.run("Why?").text == "The answer is 1"
    assert replay_of(record(tmp_path), strict=True).run().text == "The answer is 1"


def test_with_another_aggregator_the_same_are_asked_and_one_call_goes_out(tmp_path: Path) -> None:
    response = run_traced(tmp_path)
    replay = replay_of(record(tmp_path), swap={"aggregator": speaker("other")})
    again = replay.run()
    assert again.routed == response.routed
    assert (again.synthesizer, len(replay.going.usages)) == ("other", 1)


def test_on_new_answers_those_are_asked_whom_the_run_asked(tmp_path: Path) -> None:
    response = run_traced(tmp_path, num_layers=2)
    asked = {name for routing in response.routed for name in routing.asked}
    replay = replay_of(
        record(tmp_path),
        swap={"cid": speaker("new")},
        model_for=lambda identity: speaker(identity.model),
    )
    again = replay.run()
    # The one that was swapped has the name of its own model.
    assert {p.proposer for p in again.proposals} == asked - {"cid"} | {"new"}
    assert not again.missing


def test_who_was_dropped_is_not_asked(tmp_path: Path) -> None:
    run_traced(tmp_path, num_layers=2)
    replay = replay_of(record(tmp_path), drop=["cid"], model_for=lambda identity: speaker(identity.model))
    again = replay.run()
    assert {p.proposer for p in again.proposals}
    assert "cid" not in {p.proposer for p in again.proposals}


class ByRounds(Climbing):
    """Asks another one in each round, whatever is there; rounds begin alike for who replays it."""

    def __init__(self) -> None:
        super().__init__()
        self._rounds = 0

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        if proposals:
            return GateDecision(reason="enough")
        self._rounds += 1
        return GateDecision(ask=(NAMES[self._rounds - 1],), reason="its turn")


async def test_runs_at_one_time_each_have_every_decision(tmp_path: Path) -> None:
    run_traced(tmp_path, gate=ByRounds())
    replay = replay_of(record(tmp_path), strict=True)
    runs = [replay.pack.arun(replay.company.question) for _ in range(5)]
    for response in await asyncio.gather(*runs):
        assert [routing.asked for routing in response.routed] == [["ann"], [], ["bob"], []]
    assert replay.policy.unknown == []


async def test_a_replay_that_was_cut_leaves_the_next_one_as_it_is(tmp_path: Path) -> None:
    response = run_traced(tmp_path, gate=ByRounds())
    replay = replay_of(record(tmp_path), strict=True)
    async for item in replay.pack.astream(replay.company.question):
        if isinstance(item, ProgressEvent) and item.kind == "routed":
            break  # the gate has decided once
    assert (await replay.pack.arun(replay.company.question)).text == response.text
    assert replay.policy.unknown == []


class ByStages(Climbing):
    """Asks one group after another."""

    def __init__(self, *groups: Sequence[str]) -> None:
        super().__init__()
        self._groups = groups

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        there = {proposal.proposer for proposal in proposals}
        left = [group for group in self._groups if not set(group) <= there]
        return GateDecision(ask=tuple(left[0]) if left else (), reason="more")


def test_where_all_of_a_stage_were_dropped_the_others_are_asked(tmp_path: Path) -> None:
    run_traced(tmp_path, num_layers=2, gate=ByStages(["ann", "bob"], ["cid"]))
    replay = replay_of(
        record(tmp_path), drop=["ann", "bob"], model_for=lambda identity: speaker(identity.model)
    )
    assert [p.proposer for p in replay.run().proposals] == ["cid"]


def test_a_run_that_its_gate_ended_ends_so_again(tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match="nobody is free") as was:
        run_traced(tmp_path, gate=Lost())
    with pytest.raises(MixtureError) as now:
        replay_of(record(tmp_path), strict=True).run()
    assert str(now.value) == str(was.value)


def test_a_gate_of_the_callers_own_decides_anew(tmp_path: Path) -> None:
    run_traced(tmp_path, num_layers=2)
    replay = replay_of(record(tmp_path), gate=None, model_for=lambda identity: speaker(identity.model))
    assert [p.proposer for p in replay.run().proposals] == list(NAMES)
