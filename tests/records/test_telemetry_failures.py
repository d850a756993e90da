"""Spans of runs that go wrong, all the way to killed ones: what they say, and that nothing is left."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from opentelemetry import trace

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack, MixtureTimeoutError
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, ModelIdentity, SeatFacts
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.telemetry import RunSpans, Telemetry
from llama_index.packs.mixture_of_agents.results import MixtureResponse, Proposal, Usage
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
from tests.records.observed_packs import KEY, TREE, observed_pack, until
from tests.records.span_tree import Recorder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


class UnavailableError(Exception):
    """An error as clients raise it."""

    status_code = 503


# What goes wrong.


async def test_a_proposer_that_fails_is_an_error_and_the_run_is_not(recorder: Recorder) -> None:
    down = ScriptedLLM([RuntimeError(f"bad key {KEY}")], model="bee")
    await observed_pack(
        recorder, [ScriptedLLM("a draft", model="ant"), down], num_layers=2, max_retries=0
    ).arun("why?")
    root = recorder.root()
    for failed in (*root.named("propose bee"), *root.named("chat bee")):
        assert failed.status == "ERROR"
        assert failed.attributes["error.type"] == "RuntimeError"
        assert failed.span.status.description == "RuntimeError: bad key [secret]"
    assert {node.status for node in root.named("propose ant")} == {"UNSET"}
    assert root.status == "UNSET"
    assert root.attributes["moa.degraded"] is True
    assert root.attributes["moa.missing"] == 1


async def test_each_try_is_a_call_of_its_own(recorder: Recorder) -> None:
    flaky = ScriptedLLM([UnavailableError("busy"), "a draft"], model="bee")
    await observed_pack(recorder, [flaky], num_layers=2).arun("why?")
    (step,) = recorder.root().named("propose bee")
    assert [(node.name, node.status) for node in step.children] == [
        ("chat bee", "ERROR"),
        ("chat bee", "UNSET"),
    ]
    assert step.status == "UNSET"
    assert step.children[0].attributes["error.type"] == "503"
    assert [event.name for event in step.span.events] == ["moa.retry"]


async def test_a_run_in_which_nobody_answers_ends_in_error(recorder: Recorder) -> None:
    down = [ScriptedLLM(lambda _: RuntimeError("down"), model=name) for name in ("ant", "queen")]
    with pytest.raises(MixtureError):
        await observed_pack(recorder, down[:1], llm=down[1], num_layers=2, max_retries=0).arun("why?")
    root = recorder.root()
    assert root.status == "ERROR"
    assert root.attributes["error.type"] == "MixtureError"
    assert [node.status for node in root.named("chat")] == ["ERROR", "ERROR"]


async def test_a_stand_in_has_a_step_of_its_own(recorder: Recorder) -> None:
    down = ScriptedLLM([RuntimeError("down")], model="queen")
    await observed_pack(recorder, [ScriptedLLM("a draft", model="ant")], llm=down, num_layers=2).arun("why?")
    finish = recorder.root().children[-1]
    assert finish.outline() == (
        "layer 2",
        [("synthesize queen", ["chat queen"]), ("synthesize ant", ["chat ant"])],
    )
    assert [step.status for step in finish.children] == ["ERROR", "UNSET"]


async def test_a_deadline_ends_what_is_open_in_error(recorder: Recorder) -> None:
    pack = observed_pack(recorder, [LatencyLLM(30, model="bee")], num_layers=2, timeout=0.2)
    with pytest.raises(MixtureTimeoutError):
        await pack.arun("why?")
    root = recorder.root()
    assert root.outline() == (TREE[0], [("layer 1", [("propose bee", ["chat bee"])])])
    assert {node.status for node in root.walk()} == {"ERROR"}
    assert {node.attributes["error.type"] for node in root.walk()} == {"MixtureTimeoutError"}


async def test_a_cancelled_run_ends_what_is_open_in_error(recorder: Recorder) -> None:
    slow = LatencyLLM(30, model="bee")
    task = asyncio.ensure_future(observed_pack(recorder, [slow], num_layers=2).arun("why?"))
    await until(lambda: slow.in_flight > 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: any(span.name == TREE[0] for span in recorder.spans))
    root = recorder.root()
    assert root.outline() == (TREE[0], [("layer 1", [("propose bee", ["chat bee"])])])
    assert {node.status for node in root.walk()} == {"ERROR"}


async def test_a_call_cut_by_a_quorum_is_an_error_in_a_run_that_is_none(recorder: Recorder) -> None:
    references = [ScriptedLLM("a draft", model="ant"), LatencyLLM(30, model="bee")]
    await observed_pack(recorder, references, num_layers=2, quorum=1).arun("why?")
    root = recorder.root()
    (cut,) = root.named("chat bee")
    assert cut.status == "ERROR"
    assert "quorum" in (cut.span.status.description or "")
    assert root.status == "UNSET"


# Runs played by hand, for what a real one cannot be brought to quickly.


def _start(run_id: str) -> RunStart:
    seat = SeatFacts(name="ant", identity=ModelIdentity(class_name="OpenAI", model="gpt-4o"))
    mixture = MixtureFacts(layers=[[seat]], aggregator=seat)
    return RunStart(run_id, [ChatMessage(content="why?")], mixture)


def _half_a_run(telemetry: Telemetry, run_id: str) -> tuple[RunSpans, Call]:
    """A run whose first call is out."""
    spans = telemetry.for_run(_start(run_id))
    call = Call(
        run_id, 1, 0, "ant", [], Sampling(), identity=ModelIdentity(class_name="OpenAI", model="gpt-4o")
    )
    spans.happened(ProgressEvent(kind="round", layer=1))
    spans.asks(call)
    spans.sent(call)
    return spans, call


def test_a_thousand_runs_ended_or_killed_leave_nothing_behind(recorder: Recorder) -> None:
    telemetry, kept = Telemetry(recorder.provider), weakref.WeakSet[RunSpans]()
    recorder.exporter.shutdown()  # an in-memory exporter keeps spans, which is not the question here

    def one(number: int) -> None:
        spans, call = _half_a_run(telemetry, f"run {number}")
        kept.add(spans)
        if number % 3 == 0:
            spans.noted(call, Proposal(proposer="ant", layer=1, text="x"), Usage(), "")
            spans.ended(MixtureResponse(text="x"))
        elif number % 3 == 1:
            spans.ended(asyncio.CancelledError())

    for number in range(1000):
        contextvars.copy_context().run(one, number)
    gc.collect()
    assert len(kept) == 0


class _Counted(Telemetry):
    """Knows which of its runs' spans are still in memory."""

    def for_run(self, start: RunStart) -> RunSpans:
        spans = super().for_run(start)
        self.kept.add(spans)
        return spans

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.kept = weakref.WeakSet[RunSpans]()


async def test_real_runs_answered_failed_and_cancelled_leave_nothing_behind(recorder: Recorder) -> None:
    telemetry = _Counted(recorder.provider)
    recorder.exporter.shutdown()
    slow, down = LatencyLLM(30, model="slow"), ScriptedLLM(lambda _: RuntimeError("down"), model="down")
    fine = ScriptedLLM("fine", model="fine")

    async def one(model: ScriptedLLM) -> str:
        pack = MixtureOfAgentsPack(model, [model], num_layers=2, policies=[telemetry], max_retries=0)
        try:
            return str(await asyncio.wait_for(pack.arun("why?"), 1.0))
        except (asyncio.TimeoutError, MixtureError) as error:
            return type(error).__name__

    outcomes = await asyncio.gather(*map(one, [slow, down, fine] * 10))
    assert outcomes == ["TimeoutError", "MixtureError", "fine"] * 10

    def gone() -> bool:
        gc.collect()
        return not telemetry.kept

    await until(gone)
    assert gone()


def test_what_comes_after_the_end_makes_no_span(recorder: Recorder) -> None:
    def play() -> None:
        spans, call = _half_a_run(Telemetry(recorder.provider), "run")
        spans.ended(RuntimeError("killed"))
        spans.noted(call, call.missing("too late"), Usage(), "")
        spans.sent(call)
        spans.asks(call)
        spans.happened(ProgressEvent(kind="retry", layer=1, proposer="ant"))
        spans.happened(ProgressEvent(kind="round", layer=2))

    contextvars.copy_context().run(play)
    assert len(recorder.spans) == 4
    assert recorder.root().named("layer 2") == []


def test_a_tracer_that_does_not_record_is_no_matter() -> None:
    def play() -> None:
        spans, call = _half_a_run(Telemetry(trace.NoOpTracerProvider()), "run")
        spans.noted(call, Proposal(proposer="ant", layer=1, text="x"), Usage(), "")
        spans.ended(MixtureResponse(text="x"))

    contextvars.copy_context().run(play)
