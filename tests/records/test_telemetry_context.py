"""Where the spans of a run stand: under its caller, over its clients, apart from other runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, MessageRole
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.llms.openai import OpenAI
from llama_index_instrumentation import get_dispatcher
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry import trace
from opentelemetry.trace import Tracer

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
from tests.records.observed_packs import KEY, TREE, observed_pack, posting
from tests.records.span_tree import Recorder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tracer(recorder: Recorder) -> Tracer:
    return recorder.provider.get_tracer("a caller or a client")


# What stands around it and within it.


async def test_a_run_stands_under_its_caller_whose_context_it_leaves_alone(
    recorder: Recorder, tracer: Tracer
) -> None:
    with tracer.start_as_current_span("request") as request:
        await observed_pack(recorder).arun("why?")
        assert trace.get_current_span() is request
    assert not trace.get_current_span().is_recording()
    assert recorder.root().outline() == ("request", [TREE])


def test_a_blocking_run_stands_under_its_caller_too(recorder: Recorder, tracer: Tracer) -> None:
    with tracer.start_as_current_span("request"):
        observed_pack(recorder).run("why?")
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


@pytest.mark.parametrize("limits", [{}, {"layer_timeout": 30.0}])
@pytest.mark.parametrize("streams", [False, True])
async def test_what_a_client_emits_stands_under_the_call(
    recorder: Recorder, tracer: Tracer, limits: dict[str, float], streams: bool
) -> None:
    references = [posting(tracer, "ant"), BlockingLLM(tracer=tracer)]
    pack = observed_pack(recorder, references, llm=posting(tracer, "queen"), num_layers=2, **limits)
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
    pack = observed_pack(recorder, references, llm=posting(tracer, "queen"))
    ids = await asyncio.gather(*(one(number, pack) for number in range(20)))
    expected = (TREE[0], [*TREE[1][:2], ("layer 3", [("synthesize queen", [("chat queen", ["POST"])])])])
    roots = recorder.roots()
    assert [root.outline() for root in roots] == [(f"request {n}", [expected]) for n in range(20)]
    assert [root.children[0].attributes["moa.run_id"] for root in roots] == ids


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
    await observed_pack(instrumented, num_layers=2).arun("why?")
    root = instrumented.root()
    ours = [child.outline() for child in root.children if child.name.startswith("layer")]
    own = [child.outline() for child in root.children if not child.name.startswith("layer")]
    assert ours == [TREE[1][0], ("layer 2", TREE[1][2][1])]
    assert own == [OWN_TREE]


@by_its_older_name
async def test_llama_index_own_spans_hold_no_key(instrumented: Recorder) -> None:
    model = OpenAI("gpt-4o-mini", api_key=KEY, api_base="http://127.0.0.1:9/v1", max_retries=0)
    pack = MixtureOfAgentsPack(ScriptedLLM("the answer", model="queen"), [model], num_layers=2, max_retries=0)
    assert (await pack.arun("why?")).degraded
    (failed,) = instrumented.root().named("OpenAI.achat")
    assert failed.status == "ERROR"
    assert KEY not in "".join(span.to_json() for span in instrumented.spans)


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
