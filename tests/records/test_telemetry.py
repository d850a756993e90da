"""OpenTelemetry spans of runs: one tree each, whatever becomes of the run, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, MessageRole
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index_instrumentation import get_dispatcher
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack, MixtureTimeoutError
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, ModelIdentity, SeatFacts
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.telemetry import CAPTURE, RunSpans, Telemetry
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage
from llama_index.packs.mixture_of_agents.sampling import Sampling
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
from tests.records.span_tree import Recorder

KEY = "sk-proj-" + "a1b2c3d4" * 4


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tracer(recorder: Recorder) -> Tracer:
    return recorder.provider.get_tracer("a caller or a client")


def _pack(recorder: Recorder, references: Sequence[Any] | None = None, **options: Any) -> MixtureOfAgentsPack:
    names = ("ant", "bee")
    llm = options.pop("llm", None) or ScriptedLLM("the answer", model="queen")
    policies = [*options.pop("policies", ()), Telemetry(recorder.provider, **options.pop("spans", {}))]
    models = references or [ScriptedLLM(f"draft of {name}", model=name) for name in names]
    return MixtureOfAgentsPack(
        llm, list(models), num_layers=options.pop("num_layers", 3), policies=policies, **options
    )


STEPS = [("propose ant", ["chat ant"]), ("propose bee", ["chat bee"])]
TREE = (
    "invoke_agent mixture_of_agents",
    [("layer 1", STEPS), ("layer 2", STEPS), ("layer 3", [("synthesize queen", ["chat queen"])])],
)


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)


class UnavailableError(Exception):
    """An error as clients raise it."""

    status_code = 503


# What one run looks like.


async def test_a_run_is_one_tree_of_layers_steps_and_calls(recorder: Recorder) -> None:
    await _pack(recorder).arun("why?")
    root = recorder.root()
    assert root.outline() == TREE
    assert {node.status for node in root.walk()} == {"UNSET"}
    assert {node.span.context.trace_id for node in root.walk() if node.span.context} != set()


async def test_a_call_carries_its_place_its_settings_and_what_it_used(recorder: Recorder) -> None:
    pack = _pack(recorder, temperature=0.5, max_tokens=20)
    response = await pack.arun("why?")
    call, *_ = recorder.root().named("chat bee")
    usage = next(p.usage for p in response.proposals if p.proposer == "bee")
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "bee",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 20,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "moa.layer": 1,
        "moa.index": 1,
        "moa.task": "propose",
        "moa.proposer": "bee",
    }
    assert call.attributes.items() >= expected.items()
    assert call.span.kind is SpanKind.CLIENT


async def test_the_run_says_what_it_came_to(recorder: Recorder) -> None:
    response = await _pack(recorder).arun("why?")
    attributes = recorder.root().attributes
    assert attributes["gen_ai.operation.name"] == "invoke_agent"
    assert attributes["gen_ai.agent.name"] == "mixture_of_agents"
    assert attributes["gen_ai.usage.output_tokens"] == response.usage.completion_tokens
    assert attributes["moa.run_id"] == response.run_id
    assert attributes["moa.num_layers"] == 3
    assert attributes["moa.synthesizer"] == "queen"
    assert attributes["moa.degraded"] is False


@pytest.mark.parametrize("door", ["run", "astream"])
async def test_the_tree_is_the_same_by_every_door(recorder: Recorder, door: str) -> None:
    pack = _pack(recorder)
    if door == "run":
        await asyncio.to_thread(pack.run, "why?")
    else:
        assert [item async for item in pack.astream("why?")]
    assert recorder.root().outline() == TREE


# What stands around it and within it.


async def test_a_run_stands_under_its_caller_whose_context_it_leaves_alone(
    recorder: Recorder, tracer: Tracer
) -> None:
    with tracer.start_as_current_span("request") as request:
        await _pack(recorder).arun("why?")
        assert trace.get_current_span() is request
    assert not trace.get_current_span().is_recording()
    assert recorder.root().outline() == ("request", [TREE])


def test_a_blocking_run_stands_under_its_caller_too(recorder: Recorder, tracer: Tracer) -> None:
    with tracer.start_as_current_span("request"):
        _pack(recorder).run("why?")
    assert recorder.root().outline() == ("request", [TREE])


class BlockingLLM(CustomLLM):
    """A class with sync methods only, so the mixture asks it in a thread."""

    tracer: Any = None

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="blocking", is_chat_model=True)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        with self.tracer.start_as_current_span("POST"):
            return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content="done"))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        yield self.chat(messages)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError


def _posting(tracer: Tracer, model: str) -> ScriptedLLM:
    def answer(messages: Sequence[ChatMessage]) -> str:
        with tracer.start_as_current_span("POST"):
            return f"said by {model}"

    return ScriptedLLM(answer, model=model)


@pytest.mark.parametrize("limits", [{}, {"layer_timeout": 30.0}])
@pytest.mark.parametrize("streams", [False, True])
async def test_what_a_client_emits_stands_under_the_call(
    recorder: Recorder, tracer: Tracer, limits: dict[str, float], streams: bool
) -> None:
    references = [_posting(tracer, "ant"), BlockingLLM(tracer=tracer)]
    pack = _pack(recorder, references, llm=_posting(tracer, "queen"), num_layers=2, **limits)
    if streams:
        assert [item async for item in pack.astream("why?")]
    else:
        await pack.arun("why?")
    assert recorder.root().outline() == (
        "invoke_agent mixture_of_agents",
        [
            (
                "layer 1",
                [
                    ("propose ant", [("chat ant", ["POST"])]),
                    ("propose blocking", [("chat blocking", ["POST"])]),
                ],
            ),
            ("layer 2", [("synthesize queen", [("chat queen", ["POST"])])]),
        ],
    )


async def test_twenty_runs_at_once_are_twenty_trees(recorder: Recorder, tracer: Tracer) -> None:
    async def one(number: int, pack: MixtureOfAgentsPack) -> str:
        with tracer.start_as_current_span(f"request {number}"):
            return str((await pack.arun(f"question {number}")).run_id)

    references = [LatencyLLM(0.01 * n, model=name) for n, name in enumerate(("ant", "bee"))]
    pack = _pack(recorder, references, llm=_posting(tracer, "queen"))
    ids = await asyncio.gather(*(one(number, pack) for number in range(20)))
    expected = (TREE[0], [*TREE[1][:2], ("layer 3", [("synthesize queen", [("chat queen", ["POST"])])])])
    roots = recorder.roots()
    assert [root.outline() for root in roots] == [(f"request {n}", [expected]) for n in range(20)]
    assert [root.children[0].attributes["moa.run_id"] for root in roots] == ids


# What goes wrong.


async def test_a_proposer_that_fails_is_an_error_and_the_run_is_not(recorder: Recorder) -> None:
    down = ScriptedLLM([RuntimeError(f"bad key {KEY}")], model="bee")
    await _pack(recorder, [ScriptedLLM("a draft", model="ant"), down], num_layers=2, max_retries=0).arun(
        "why?"
    )
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
    await _pack(recorder, [flaky], num_layers=2).arun("why?")
    (step,) = recorder.root().named("propose bee")
    assert [(node.name, node.status) for node in step.children] == [
        ("chat bee", "ERROR"),
        ("chat bee", "UNSET"),
    ]
    assert step.status == "UNSET"
    assert step.children[0].attributes["error.type"] == "UnavailableError"
    assert [event.name for event in step.span.events] == ["moa.retry"]


async def test_a_run_in_which_nobody_answers_ends_in_error(recorder: Recorder) -> None:
    down = [ScriptedLLM(lambda _: RuntimeError("down"), model=name) for name in ("ant", "queen")]
    with pytest.raises(MixtureError):
        await _pack(recorder, down[:1], llm=down[1], num_layers=2, max_retries=0).arun("why?")
    root = recorder.root()
    assert root.status == "ERROR"
    assert root.attributes["error.type"] == "MixtureError"
    assert [node.status for node in root.named("chat")] == ["ERROR", "ERROR"]


async def test_a_stand_in_has_a_step_of_its_own(recorder: Recorder) -> None:
    down = ScriptedLLM([RuntimeError("down")], model="queen")
    await _pack(recorder, [ScriptedLLM("a draft", model="ant")], llm=down, num_layers=2).arun("why?")
    finish = recorder.root().children[-1]
    assert finish.outline() == (
        "layer 2",
        [("synthesize queen", ["chat queen"]), ("synthesize ant", ["chat ant"])],
    )
    assert [step.status for step in finish.children] == ["ERROR", "UNSET"]


async def test_a_deadline_ends_what_is_open_in_error(recorder: Recorder) -> None:
    pack = _pack(recorder, [LatencyLLM(30, model="bee")], num_layers=2, timeout=0.2)
    with pytest.raises(MixtureTimeoutError):
        await pack.arun("why?")
    root = recorder.root()
    assert root.outline() == (TREE[0], [("layer 1", [("propose bee", ["chat bee"])])])
    assert {node.status for node in root.walk()} == {"ERROR"}
    assert {node.attributes["error.type"] for node in root.walk()} == {"MixtureTimeoutError"}


async def test_a_cancelled_run_ends_what_is_open_in_error(recorder: Recorder) -> None:
    slow = LatencyLLM(30, model="bee")
    task = asyncio.ensure_future(_pack(recorder, [slow], num_layers=2).arun("why?"))
    await _until(lambda: slow.in_flight > 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _until(lambda: any(span.name == TREE[0] for span in recorder.spans))
    root = recorder.root()
    assert root.outline() == (TREE[0], [("layer 1", [("propose bee", ["chat bee"])])])
    assert {node.status for node in root.walk()} == {"ERROR"}


async def test_a_call_cut_by_a_quorum_is_an_error_in_a_run_that_is_none(recorder: Recorder) -> None:
    references = [ScriptedLLM("a draft", model="ant"), LatencyLLM(30, model="bee")]
    await _pack(recorder, references, num_layers=2, quorum=1).arun("why?")
    root = recorder.root()
    (cut,) = root.named("chat bee")
    assert cut.status == "ERROR"
    assert "quorum" in (cut.span.status.description or "")
    assert root.status == "UNSET"


# What a policy answers.


class Stored:
    """Answers for one proposer, as a cache does."""

    async def before(self, call: Call) -> Proposal | Sampling | None:
        if call.proposer == "ant":
            return Proposal(proposer="ant", layer=call.layer, text="known", usage=Usage(prompt_tokens=9))
        return Sampling(temperature=0.25)

    async def after(self, call: Call, outcome: Proposal | Missing) -> None: ...


async def test_an_answer_from_a_store_is_a_step_without_a_call(recorder: Recorder) -> None:
    await _pack(recorder, policies=[Stored()], num_layers=2, temperature=1.0).arun("why?")
    (step,) = recorder.root().named("propose ant")
    assert step.children == []
    assert step.attributes["moa.source"] == "Stored"
    (call,) = recorder.root().named("chat bee")
    assert call.attributes["gen_ai.request.temperature"] == 0.25


# Contents.


async def test_contents_and_keys_stay_out_unless_contents_are_asked_for(recorder: Recorder) -> None:
    question = f"a question with {KEY}"
    await _pack(recorder).arun(question)
    told = [str(node.attributes) + str(node.span.events) for node in recorder.root().walk()]
    assert not any("question" in text or "draft of" in text or "the answer" in text for text in told)


@pytest.mark.parametrize("way", ["argument", "environment"])
async def test_contents_are_told_on_request_without_keys(
    recorder: Recorder, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "environment":
        monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    spans = {"contents": True} if way == "argument" else {}
    await _pack(recorder, num_layers=2, spans=spans).arun(f"a question with {KEY}")
    root = recorder.root()
    call, *_ = root.named("chat ant")
    for node in (root, call):
        assert "a question with [secret]" in node.attributes["gen_ai.input.messages"]
    assert "draft of ant" in call.attributes["gen_ai.output.messages"]
    assert "the answer" in root.attributes["gen_ai.output.messages"]
    assert KEY not in "".join(str(node.attributes) for node in root.walk())


async def test_the_argument_goes_before_the_environment(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CAPTURE, "true")
    await _pack(recorder, spans={"contents": False}).arun("a question")
    assert "gen_ai.input.messages" not in recorder.root().attributes


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


# LlamaIndex's own spans, with the exporter of the `otel` extra.

# It asks pydantic for JSON by a method's older name, and an error there would cost it its span.
by_its_older_name = pytest.mark.filterwarnings("ignore:The `json` method is deprecated")


@pytest.fixture
def instrumented(recorder: Recorder) -> Iterator[Recorder]:
    """LlamaIndex's own spans go to the recorder, too."""
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=recorder.provider)
    yield recorder
    instrumentor.uninstrument()


def _own(step: str, *children: Any) -> Any:
    name = f"MixtureOfAgentsWorkflow.{step}"
    return (name, list(children)) if children else name


OWN_TREE = _own(
    "run",
    _own("begin"),
    _own("propose", "ScriptedLLM.achat"),
    _own("propose", "ScriptedLLM.achat"),
    _own("aggregate"),
    _own("synthesize", "ScriptedLLM.achat"),
)


@by_its_older_name
async def test_llama_index_exporters_alone_show_every_step(instrumented: Recorder) -> None:
    models = [ScriptedLLM("a draft", model=name) for name in ("ant", "bee")]
    pack = MixtureOfAgentsPack(ScriptedLLM("the answer", model="queen"), models, num_layers=2)
    await pack.arun("why?")
    assert instrumented.root().outline() == OWN_TREE


@by_its_older_name
async def test_llama_index_own_spans_stand_in_the_tree_of_the_run(instrumented: Recorder) -> None:
    await _pack(instrumented, num_layers=2).arun("why?")
    root = instrumented.root()
    ours = [child.outline() for child in root.children if child.name.startswith("layer")]
    own = [child.outline() for child in root.children if not child.name.startswith("layer")]
    assert ours == [TREE[1][0], ("layer 2", TREE[1][2][1])]
    assert own == [OWN_TREE]


class _Tagged(BaseEventHandler):
    """Keeps the tags of events, as every LlamaIndex exporter gets them."""

    seen: list[dict[str, Any]]

    @classmethod
    def class_name(cls) -> str:
        return "_Tagged"

    def handle(self, event: Any, **kwargs: Any) -> None:
        if event.class_name() == "LLMChatStartEvent":
            self.seen.append(event.tags)


async def test_llama_index_own_events_tell_where_a_call_stands() -> None:
    handler, dispatcher = _Tagged(seen=[]), get_dispatcher()
    dispatcher.add_event_handler(handler)
    try:
        models = [ScriptedLLM("a draft", model="ant")]
        await MixtureOfAgentsPack(ScriptedLLM("the answer", model="queen"), models, num_layers=2).arun("why?")
    finally:
        dispatcher.event_handlers.remove(handler)
    told = [
        {name: tags.get(f"moa.{name}") for name in ("layer", "task", "proposer")} for tags in handler.seen
    ]
    assert told == [
        {"layer": 1, "task": "propose", "proposer": "ant"},
        {"layer": 2, "task": "synthesize", "proposer": "queen"},
    ]
