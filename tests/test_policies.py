"""Policies of a run: each run gets one of its own, settings can be changed, and who watches is told all."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms import MockLLM

from llama_index.packs.mixture_of_agents import (
    ConfigurationError,
    Missing,
    MixtureError,
    MixtureOfAgentsPack,
    MixtureOfAgentsWorkflow,
    MixtureResponse,
    MixtureTimeoutError,
    ProgressEvent,
    Proposal,
    Usage,
)
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.finishes import Sequential
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM


class Diary:
    """Watches runs and writes down what it is told."""

    def __init__(self) -> None:
        self.starts: list[RunStart] = []
        self.lines: list[tuple[str, Any]] = []

    def for_run(self, start: RunStart) -> Diary:
        self.starts.append(start)
        return self

    def asks(self, call: Call) -> None:
        self.lines.append(("asks", call.place))

    def happened(self, event: ProgressEvent) -> None:
        self.lines.append(("happened", event.kind))

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        self.lines.append(("noted", (call.place, type(record).__name__, source)))

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        self.lines.append(("ended", outcome))

    def of(self, kind: str) -> list[Any]:
        return [value for name, value in self.lines if name == kind]


class Rule:
    """A policy made of one function of a call."""

    def __init__(self, decide: Callable[[Call], Proposal | Missing | Sampling | None]) -> None:
        self._decide = decide
        self.after_calls: list[Call] = []

    async def before(self, call: Call) -> Proposal | Missing | Sampling | None:
        return self._decide(call)

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        self.after_calls.append(call)


def models(number: int = 2) -> list[ScriptedLLM]:
    return [ScriptedLLM(f"draft {n}", model=f"p{n}") for n in range(number)]


def pack_with(
    *policies: Any, aggregator: Any = None, proposers: Any = None, **options: Any
) -> MixtureOfAgentsPack:
    writer = aggregator or ScriptedLLM("answer", model="g")
    return MixtureOfAgentsPack(writer, proposers or models(), policies=policies, **options)


async def test_who_watches_is_told_every_call_and_the_end_once() -> None:
    diary = Diary()
    response = await pack_with(diary, num_layers=3).arun("Why?")
    places = [(1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 0), (3, 0, 0)]
    assert sorted(diary.of("asks")) == places
    assert sorted(diary.of("noted")) == [(place, "Proposal", "") for place in places]
    assert diary.of("ended") == [response]
    assert diary.of("happened").count("answered") == 5
    assert diary.lines[-1] == ("ended", response)


async def test_a_run_start_tells_the_question_and_the_mixture_as_facts() -> None:
    diary = Diary()
    pack = pack_with(diary, num_layers=2, temperature=0.5, config={"made": "of this"})
    response = await pack.arun("Why?")
    (start,) = diary.starts
    assert start.run_id == response.run_id
    assert [message.content for message in start.messages] == ["Why?"]
    facts = start.mixture
    assert [seat.name for seat in facts.layers[0]] == ["p0", "p1"]
    assert str(facts.aggregator.identity) == "ScriptedLLM(g)"
    assert facts.aggregator.temperature == 0.5
    assert facts.config == {"made": "of this"}
    assert type(facts).model_validate_json(facts.model_dump_json()) == facts


async def test_each_run_gets_a_policy_of_its_own() -> None:
    made: list[Diary] = []

    class Maker:
        def for_run(self, start: RunStart) -> Diary:
            made.append(Diary())
            return made[-1]

    pack = pack_with(Maker())
    responses = await asyncio.gather(*(pack.arun(f"Why {n}?") for n in range(5)))
    assert [diary.of("ended") for diary in made] == [[response] for response in responses]


@pytest.mark.parametrize("door", ["arun", "astream"])
async def test_watching_is_the_same_whether_the_run_is_streamed_or_not(door: str) -> None:
    diary = Diary()
    pack = pack_with(diary, num_layers=3)
    if door == "arun":
        await pack.arun("Why?")
    else:
        _ = [item async for item in pack.astream("Why?")]
    kinds = diary.of("happened")
    assert [kinds.count(kind) for kind in ("round", "asked", "answered", "synthesis")] == [2, 4, 5, 1]


async def test_a_failed_run_ends_with_its_error() -> None:
    diary = Diary()
    broken = ScriptedLLM(lambda _: ValueError("down"))
    with pytest.raises(MixtureError) as caught:
        await pack_with(diary, aggregator=broken, proposers=[broken]).arun("Why?")
    assert diary.of("ended") == [caught.value]


async def test_a_run_past_its_timeout_ends_with_that() -> None:
    diary = Diary()
    with pytest.raises(MixtureTimeoutError) as caught:
        await pack_with(diary, proposers=[LatencyLLM(30.0)], timeout=0.2).arun("Why?")
    assert diary.of("ended") == [caught.value]


async def test_a_cancelled_run_ends_too() -> None:
    diary = Diary()
    task = asyncio.ensure_future(pack_with(diary, proposers=[LatencyLLM(30.0)]).arun("Why?"))
    for _ in range(200):
        if diary.of("asks"):
            break
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(100):
        if diary.of("ended"):
            break
        await asyncio.sleep(0.02)
    (ending,) = diary.of("ended")
    assert isinstance(ending, asyncio.CancelledError)


async def test_one_who_watches_and_fails_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Diary):
        def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
            raise OSError("no pen")

    response = await pack_with(Broken()).arun("Why?")
    assert (response.text, response.degraded) == ("answer", False)
    assert "no pen" in caplog.text


async def test_a_policy_that_refuses_a_run_does_so_before_any_call_and_others_hear_of_it() -> None:
    class Refuses:
        def for_run(self, start: RunStart) -> None:
            raise ConfigurationError("not today")

    diary, aggregator = Diary(), ScriptedLLM("x")
    with pytest.raises(ConfigurationError, match="not today") as caught:
        await pack_with(diary, Refuses(), aggregator=aggregator).arun("Why?")
    assert aggregator.calls == []
    assert diary.of("ended") == [caught.value]


async def test_a_refused_run_gives_its_checkpoint_back(tmp_path: Path) -> None:
    refusals = iter([ConfigurationError("not today")])

    class RefusesOnce:
        def for_run(self, start: RunStart) -> Rule:
            for error in refusals:
                raise error
            return Rule(lambda call: None)

    pack = pack_with(RefusesOnce())
    with pytest.raises(ConfigurationError, match="not today"):
        await pack.arun("Why?", checkpoint=tmp_path / "run.json")
    assert (await pack.arun("Why?", checkpoint=tmp_path / "run.json")).text == "answer"


# Settings changed by a policy


async def test_a_policy_changes_the_settings_a_call_goes_out_with() -> None:
    aggregator, proposers = ScriptedLLM("answer", model="g"), models(1)
    shorter = Rule(lambda call: Sampling(max_tokens=7) if call.task == "synthesize" else None)
    pack = pack_with(shorter, aggregator=aggregator, proposers=proposers, max_tokens=100, temperature=0.4)
    await pack.arun("Why?")
    assert proposers[0].calls[0].options == {"max_tokens": 100, "temperature": 0.4}
    assert aggregator.calls[0].options == {"max_tokens": 7, "temperature": 0.4}
    went_out = [call for call in shorter.after_calls if call.task == "synthesize"]
    assert [call.sampling.max_tokens for call in went_out] == [7]


async def test_the_next_policy_sees_the_changed_settings() -> None:
    seen: list[int | None] = []

    def look(call: Call) -> None:
        seen.append(call.sampling.max_tokens)

    await pack_with(Rule(lambda call: Sampling(max_tokens=5)), Rule(look), num_layers=1).arun("Why?")
    assert seen == [5]


async def test_a_streamed_answer_is_shortened_too() -> None:
    aggregator = ScriptedLLM("answer", model="g")
    pack = pack_with(Rule(lambda call: Sampling(max_tokens=3)), aggregator=aggregator, num_layers=1)
    _ = [item async for item in pack.astream("Why?")]
    assert aggregator.calls[0].options["max_tokens"] == 3


# What a call is, and whose answers are not asked for


async def test_refused_rounds_are_skipped_and_the_answer_comes_from_the_last_one_there_is() -> None:
    diary, proposers = Diary(), models()
    no_second = Rule(lambda call: call.missing("not asked") if call.layer == 2 else None)
    response = await pack_with(diary, no_second, proposers=proposers, num_layers=3).arun("Why?")
    assert [len(model.calls) for model in proposers] == [1, 1]
    assert [gone.layer for gone in response.missing] == [2, 2]
    assert response.text == "answer"
    assert [source for _, _, source in diary.of("noted")].count("Rule") == 2


async def test_calls_say_what_they_are_for_and_no_two_have_the_same_place() -> None:
    calls: list[Call] = []
    note = Rule(lambda call: calls.append(call))
    aggregator = ScriptedLLM(lambda _: '{"roles": [{"name": "Judge"}]}', model="g")
    pack = pack_with(
        note,
        aggregator=aggregator,
        proposers=models(3),
        strategy="role",
        pass_on="condensed",
        finish=Sequential(2),
        num_layers=3,
    )
    await pack.arun("Why?")
    tasks = [(call.task, call.place) for call in sorted(calls, key=lambda call: call.place)]
    assert tasks == [
        ("roles", (1, -1, 0)),
        *(("propose", (1, n, 0)) for n in range(3)),
        ("condense", (1, 3, 0)),
        *(("propose", (2, n, 0)) for n in range(3)),
        ("synthesize", (3, 0, 0)),
        ("synthesize", (3, 0, 1)),
    ]
    assert {str(call.identity) for call in calls if call.task != "propose"} == {"ScriptedLLM(g)"}


async def test_retries_and_what_the_provider_said_are_kept_with_the_answer() -> None:
    flaky = ScriptedLLM([ConnectionError("blip"), "fine"], model="p")
    response = await pack_with(proposers=[flaky], num_layers=2).arun("Why?")
    assert response.proposals[0].details["retries"] == 1


async def test_what_each_call_used_is_kept_and_adds_up() -> None:
    broken = ScriptedLLM(lambda _: ValueError("down"), model="broken")
    aggregator = ScriptedLLM(lambda _: "three words here", model="g")
    pack = pack_with(aggregator=aggregator, proposers=[*models(2), broken], num_layers=3, pass_on="condensed")
    response = await pack.arun("Why?")
    assert [(call.layer, call.proposer, call.task) for call in response.calls] == [
        *((1, name, "propose") for name in ("p0", "p1", "broken")),
        (1, "g", "condense"),
        *((2, name, "propose") for name in ("p0", "p1", "broken")),
        (3, "g", "synthesize"),
    ]
    assert response.usage_by("proposer")["g"].completion_tokens == 2 * 3
    assert response.usage_by("task")["condense"].completion_tokens == 3
    assert response.usage_by("proposer")["broken"] == Usage()
    assert response.usage_by("layer")[3].completion_tokens == 3
    assert response.usage == Usage.total(response.usage_by("layer").values())


def test_a_workflow_says_what_a_budget_and_a_trace_must_be() -> None:
    for name in ("budget", "trace"):
        option: Any = {name: 3}
        with pytest.raises(ConfigurationError, match=f"{name} of a workflow must be"):
            MixtureOfAgentsWorkflow(models(), ScriptedLLM("x"), **option)


@pytest.mark.parametrize("policies", [[object()], [Diary], 3, None, "x"])
def test_what_is_no_policy_is_refused(policies: Any) -> None:
    with pytest.raises(ConfigurationError, match="policies must be a list of objects"):
        MixtureOfAgentsPack(ScriptedLLM("x"), models(), policies=policies)


async def test_a_meter_that_fails_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def measured(self, call: Call, text: str, usage: Usage) -> Usage:
            raise LookupError("no prices today")

    workflow = MixtureOfAgentsWorkflow(models(), ScriptedLLM("answer"), meter=Broken())
    response: Any = await workflow.run(query_str="Why?")
    assert response.text == "answer"
    assert "no prices today" in caplog.text


async def test_a_call_names_the_tools_that_its_aggregator_is_offered() -> None:
    calls: list[Call] = []
    aggregator = ScriptedLLM("answer", model="g", is_function_calling_model=True)
    llm = pack_with(Rule(lambda call: calls.append(call)), aggregator=aggregator, num_layers=2).as_llm()
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    await llm.achat([ChatMessage(content="Why?")], tools=[tool])
    assert [(call.task, list(call.tools)) for call in calls] == [
        ("propose", []),
        ("propose", []),
        ("synthesize", ["add"]),
    ]


@pytest.mark.parametrize("said", [True, "yes", 3, object()])
async def test_a_policy_that_gives_something_else_refuses_the_call_and_is_named(said: Any) -> None:
    response = await pack_with(Rule(lambda call: said if call.layer == 1 else None), num_layers=2).arun(
        "Why?"
    )
    assert response.text == "answer"
    assert all("Rule gave" in gone.reason for gone in response.missing)
    assert len(response.missing) == 2


async def test_an_answer_from_a_store_stands_in_the_place_of_this_call() -> None:
    stored = Proposal(proposer="someone", layer=1, text="stored")
    aggregator = ScriptedLLM("answer", model="g")
    pack = pack_with(
        Rule(lambda call: stored if call.layer == 2 else None), aggregator=aggregator, num_layers=3
    )
    response = await pack.arun("Why?")
    assert [(p.layer, p.proposer) for p in response.proposals] == [(1, "p0"), (1, "p1"), (2, "p0"), (2, "p1")]
    assert aggregator.calls[0].text.count("end of draft") == 2


async def test_a_run_that_a_fault_of_ours_ends_says_with_what(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*args: Any) -> None:
        raise AttributeError("a fault of ours")

    monkeypatch.setattr("llama_index.packs.mixture_of_agents.workflow.ask_proposer", fails)
    diary = Diary()
    with pytest.raises(AttributeError, match="a fault of ours"):
        await pack_with(diary, num_layers=2).arun("Why?")
    for _ in range(100):
        if diary.of("ended"):
            break
        await asyncio.sleep(0.02)
    (ending,) = diary.of("ended")
    assert isinstance(ending, AttributeError)


async def test_a_part_that_is_none_is_refused_by_name() -> None:
    class Misspelt:
        def for_run(self, start: RunStart) -> Misspelt:
            return self

        def endet(self, outcome: object) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Misspelt\.for_run gave a Misspelt"):
        await pack_with(Misspelt()).arun("Why?")


async def test_a_run_that_cannot_begin_gives_its_checkpoint_back(tmp_path: Path) -> None:
    pack = pack_with(num_layers=1)
    first = pack.workflow.run(query_str="Why?", checkpoint=tmp_path / "a.json", run_id="same")
    with pytest.raises(Exception, match=r".+"):
        pack.workflow.run(query_str="Why?", checkpoint=tmp_path / "b.json", run_id="same")
    await first
    assert (await pack.arun("Why?", checkpoint=tmp_path / "b.json")).text == "answer"


def test_a_pack_is_pickled_with_its_prices() -> None:
    pack = MixtureOfAgentsPack(MockLLM(), [MockLLM()], 2, prices={"x": {"input": 1, "output": 2}})
    assert pickle.loads(pickle.dumps(pack)).run("Why?").text
