"""One way of calling everything: sync-only classes, agents, token counts, clients' own retries.

Knows no rounds beyond what it takes to see that a round does not wait.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    CompletionResponse,
    CompletionResponseGen,
    ImageBlock,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.tools import FunctionTool

from llama_index.packs.mixture_of_agents import (
    DeltaEvent,
    MixtureError,
    MixtureOfAgentsPack,
    MixtureResponse,
    Proposer,
    Usage,
)
from llama_index.packs.mixture_of_agents.calls.endpoint import AgentEndpoint, LLMEndpoint, is_async
from llama_index.packs.mixture_of_agents.calls.retries import is_transient, retry_after, status_of
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.reports import usage_of
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.agent_warnings import AGENTS_OWN
from tests.calls.test_sampling import FORMS, HELLO, Form, used
from tests.loopback.api_shapes import PROMPT_TOKENS
from tests.loopback.fault_server import Answer, Failure, FaultServer, wait_until
from tests.loopback.katan import free_port

pytestmark = [
    *AGENTS_OWN,
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]


class SyncLLM(CustomLLM):
    """What the documentation teaches: two sync methods and metadata."""

    model: str = "sync"
    seconds: float = 0.0
    release: Any = None

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        time.sleep(self.seconds)
        if self.release is not None:
            self.release.wait(20)
        return CompletionResponse(text=f"{self.model} in {threading.current_thread().name}")

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        text = ""
        for word in ("one ", "two ", "three"):
            time.sleep(self.seconds)
            text += word
            yield CompletionResponse(text=text, delta=word)


async def longest_pause_of_the_loop(work: Any) -> float:
    """Await `work`, and tell for how long the event loop stood still meanwhile."""
    longest = 0.0
    task = asyncio.ensure_future(work)
    while not task.done():
        before = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - before)
    await task
    return longest


def test_four_sync_llms_are_concurrent() -> None:
    proposers = [SyncLLM(model=name, seconds=0.5) for name in "abcd"]
    started = time.monotonic()
    response = MixtureOfAgentsPack(ScriptedLLM("final"), proposers, num_layers=2).run("Why?")
    assert time.monotonic() - started < 1.2  # one after the other it would be 2.0
    assert [proposal.text for proposal in response.proposals] == [f"{name} in moa-call" for name in "abcd"]


async def test_the_loop_goes_on_while_a_sync_llm_works() -> None:
    endpoint = LLMEndpoint(SyncLLM(seconds=0.6), Sampling())
    assert await longest_pause_of_the_loop(endpoint.reply(HELLO, {})) < 0.4


async def test_the_loop_goes_on_while_a_sync_llm_streams() -> None:
    async def collect() -> None:
        pieces = [reply async for reply in LLMEndpoint(SyncLLM(seconds=0.5), Sampling()).stream(HELLO, {})]
        assert [piece.delta for piece in pieces] == ["one ", "two ", "three"]
        assert pieces[-1].text == "one two three"

    assert await longest_pause_of_the_loop(collect()) < 0.35


@pytest.mark.parametrize("option", [{"layer_timeout": 0.3}, {"quorum": 1}])
def test_a_sync_llm_that_hangs_is_abandoned(option: dict[str, Any]) -> None:
    release = threading.Event()
    stuck, fine = SyncLLM(model="stuck", release=release), ScriptedLLM("fine", model="fine", latency=0.05)
    try:
        response = MixtureOfAgentsPack(ScriptedLLM("final"), [stuck, fine], num_layers=2, **option).run(
            "Why?"
        )
    finally:
        release.set()
    assert str(response) == "final"
    (gone,) = response.missing
    assert gone.proposer == "stuck"
    assert "abandoned" in gone.reason
    assert response.latency_seconds < 5


def test_a_model_with_async_methods_is_not_called_abandoned() -> None:
    slow = ScriptedLLM("late", model="slow", latency=20)
    response = MixtureOfAgentsPack(
        ScriptedLLM("final"), [slow, ScriptedLLM("fine")], num_layers=2, layer_timeout=0.2
    ).run("Why?")
    assert [gone.reason for gone in response.missing] == ["cut at layer_timeout of 0.2 s"]


class OwnAchat(SyncLLM):
    """Has an async `achat` of its own; streams by CustomLLM's default, which blocks the loop."""

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content="really async"))


async def test_each_method_counts_for_itself() -> None:
    llm = OwnAchat(seconds=0.5)
    assert is_async(llm, "achat")
    assert not is_async(llm, "astream_chat")
    endpoint = LLMEndpoint(llm, Sampling())
    assert (await endpoint.reply(HELLO, {})).text == "really async"

    async def collect() -> None:
        assert len([reply async for reply in endpoint.stream(HELLO, {})]) == 3

    assert await longest_pause_of_the_loop(collect()) < 0.35


def test_who_is_async() -> None:
    assert not is_async(SyncLLM(), "achat")
    assert not is_async(type("Child", (SyncLLM,), {"__module__": __name__})(), "achat")
    assert is_async(OwnAchat(), "achat")
    assert is_async(ScriptedLLM("x"), "achat")
    assert is_async(ScriptedLLM("x"), "astream_chat")


async def test_a_class_that_keeps_state_keeps_it_in_the_callers_object() -> None:
    class Counting(SyncLLM):
        asked: int = 0

        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            self.asked += 1
            return CompletionResponse(text="x")

    llm = Counting()
    for _ in range(2):
        await LLMEndpoint(llm, Sampling()).reply(HELLO, {})
    assert llm.asked == 2


async def test_errors_of_a_thread_are_the_calls_errors() -> None:
    class Broken(SyncLLM):
        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            raise ValueError("no good")

    with pytest.raises(ValueError, match="no good"):
        await LLMEndpoint(Broken(), Sampling()).reply(HELLO, {})


def test_context_variables_reach_the_thread() -> None:
    from contextvars import ContextVar

    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")

    class Aware(SyncLLM):
        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            return CompletionResponse(text=tenant.get())

    async def ask() -> MixtureResponse:
        tenant.set("ours")
        return await MixtureOfAgentsPack(ScriptedLLM("x"), [Aware()], num_layers=2).arun("Why?")

    assert asyncio.run(ask()).proposals[0].text == "ours"


# Streams whose pieces are not what LlamaIndex says they are.


class Pieces(ScriptedLLM):
    """Streams the responses it is given."""

    def __init__(self, *responses: ChatResponse) -> None:
        super().__init__("unused")
        self._responses = responses
        self._opened: list[AsyncGenerator[ChatResponse, None]] = []

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        async def pieces() -> AsyncGenerator[ChatResponse, None]:
            for response in self._responses:
                yield response

        self._opened.append(pieces())
        return self._opened[-1]


def _piece(*texts: str, delta: str, **more: Any) -> ChatResponse:
    blocks = [TextBlock(text=text) for text in texts]
    return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks), delta=delta, **more)


async def streamed(*responses: ChatResponse) -> MixtureResponse:
    pack = MixtureOfAgentsPack(Pieces(*responses), num_layers=1)
    *items, response = [item async for item in pack.astream("Why?")]
    assert isinstance(response, MixtureResponse)
    assert "".join(item.delta for item in items if isinstance(item, DeltaEvent)) == response.text
    return response


async def test_a_stream_that_repeats_its_text_in_further_blocks() -> None:
    # LlamaIndex's MistralAI does this.
    response = await streamed(
        _piece("", delta=""),
        _piece("", "blue", delta="blue"),
        _piece("", "blue", "blue light", delta=" light"),
    )
    assert response.text == response.message.content == "blue light"


async def test_a_stream_of_deltas_alone() -> None:
    response = await streamed(_piece("blue", delta="blue"), _piece(" light", delta=" light"))
    assert response.text == response.message.content == "blue light"


async def test_a_stream_without_deltas() -> None:
    response = await streamed(_piece("blue", delta=""), _piece("blue light", delta=""))
    assert response.text == "blue light"


async def test_blocks_that_differ_are_kept() -> None:
    response = await streamed(
        _piece("first.", delta="first."), _piece("first.", "second.", delta="\nsecond.")
    )
    assert response.text == "first.\nsecond."


async def test_leaving_early_closes_the_models_stream_at_once() -> None:
    llm = Pieces(*[_piece("word", delta="word")] * 3)
    replies = LLMEndpoint(llm, Sampling()).stream(HELLO, {})
    await anext(replies)
    await replies.aclose()
    stream: Any = llm._opened[0]  # held here, so that no garbage collector closes it
    assert stream.ag_frame is None


class WithoutClose(Pieces):
    """Streams through an iterator of its own, which has nothing to close."""

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        class Words:
            left: ClassVar = ["light", "blue "]

            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> ChatResponse:
                if not self.left:
                    raise StopAsyncIteration
                word = self.left.pop()
                return _piece(word, delta=word)

        return Words()


async def test_an_iterator_that_cannot_be_closed_streams_too() -> None:
    replies = [reply async for reply in LLMEndpoint(WithoutClose(), Sampling()).stream(HELLO, {})]
    assert [reply.delta for reply in replies] == ["blue ", "light"]


async def test_a_stream_that_is_none_is_named() -> None:
    class Nothing(Pieces):
        async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any: ...

    with pytest.raises(MixtureError, match="astream_chat of Nothing returned None"):
        await anext(LLMEndpoint(Nothing(), Sampling()).stream(HELLO, {}))


LONE = "lone \ud800"


async def test_half_a_surrogate_pair_becomes_a_character_that_can_be_sent_on() -> None:
    image = ImageBlock(url="http://localhost/a.png")
    said = ChatMessage(role=MessageRole.ASSISTANT, blocks=[TextBlock(text=LONE), image])
    reply = await LLMEndpoint(ScriptedLLM([said]), Sampling()).reply(HELLO, {})
    assert reply.text == "lone \ufffd"
    assert reply.message.blocks[1] == image
    assert said.blocks[0] == TextBlock(text=LONE)
    whole = await LLMEndpoint(ScriptedLLM(["\ud83d\ude00 caf\u00e9"]), Sampling()).reply(HELLO, {})
    assert whole.text == "\U0001f600 caf\u00e9"
    (piece,) = [r async for r in LLMEndpoint(Pieces(_piece(LONE, delta=LONE)), Sampling()).stream(HELLO, {})]
    assert piece.delta == piece.text == "lone \ufffd"


def test_half_a_surrogate_pair_costs_no_run() -> None:
    pack = MixtureOfAgentsPack(ScriptedLLM("fine"), [ScriptedLLM(LONE), ScriptedLLM("b")])
    assert pack.run("Why \ud800?").text == "fine"
    assert pack.as_llm().complete("Why?").text == "fine"


async def test_settings_among_a_calls_options_travel_in_the_classs_form() -> None:
    class NoKeywords(SyncLLM):
        temperature: float = 0.5

        def complete(self, prompt: str, formatted: bool = False) -> CompletionResponse:  # type: ignore[override]
            return CompletionResponse(text=f"at {self.temperature}")

    llm = NoKeywords()
    endpoint = LLMEndpoint(llm, Sampling(temperature=0.2))
    texts = [(await endpoint.reply(HELLO, options)).text for options in ({}, {"temperature": 0.9}, {})]
    assert texts == ["at 0.2", "at 0.9", "at 0.2"]
    assert llm.temperature == 0.5


async def test_counts_at_both_ends_of_a_stream_are_put_together() -> None:
    # Anthropic's streams say at the beginning what was read, at the end what was written.
    response = await streamed(
        _piece("blue", delta="blue", raw={"usage": {"input_tokens": 11}}),
        _piece("blue light", delta=" light", raw={"type": "text"}),
        _piece("blue light", delta="", raw={"usage": {"output_tokens": 2}}),
    )
    assert response.usage == Usage(prompt_tokens=11, completion_tokens=2)


# Token counts: the shapes that providers' classes leave in a response.


def _response(raw: Any = None, **additional: Any) -> ChatResponse:
    return ChatResponse(message=ChatMessage(content="x"), raw=raw, additional_kwargs=additional)


@pytest.mark.parametrize(
    ("response", "usage"),
    [
        (_response({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}), (3, 4)),
        (_response(SimpleNamespace(usage=SimpleNamespace(prompt_tokens=3, completion_tokens=4))), (3, 4)),
        (_response({"usage": SimpleNamespace(input_tokens=3, output_tokens=4)}), (3, 4)),
        (_response({"usage_metadata": {"prompt_token_count": 3, "candidates_token_count": 4}}), (3, 4)),
        (_response({"prompt_eval_count": 3, "eval_count": 4}), (3, 4)),
        (_response(SimpleNamespace(data=SimpleNamespace(usage=SimpleNamespace(prompt_tokens=3)))), (3, None)),
        (_response(None, prompt_tokens=3, completion_tokens=4), (3, 4)),
        (_response({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}), (0, 0)),
        (_response({"usage": None}), (None, None)),
        (_response({"usage": {"prompt_tokens": None, "completion_tokens": 4}}), (None, 4)),
        (_response(), (None, None)),
        (_response("text"), (None, None)),
    ],
)
def test_usage_of(response: ChatResponse, usage: tuple[int | None, int | None]) -> None:
    assert usage_of(response) == Usage(prompt_tokens=usage[0], completion_tokens=usage[1])


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture(params=FORMS.values(), ids=list(FORMS))
def form(request: pytest.FixtureRequest) -> Form:
    chosen: Form = request.param
    return chosen


async def test_usage_as_each_class_really_leaves_it(form: Form, server: FaultServer) -> None:
    server.default = Answer("three words here")
    async with used(form.build(server.url)) as llm:
        reply = await LLMEndpoint(llm, Sampling()).reply(HELLO, {})
    assert reply.text == "three words here"
    assert reply.usage == Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=3)


async def test_usage_of_each_classs_stream(form: Form, server: FaultServer) -> None:
    server.default = Answer("three words here")
    async with used(form.build(server.url)) as llm:
        *_, last = [reply async for reply in LLMEndpoint(llm, Sampling()).stream(HELLO, {})]
    assert last.text == "three words here"
    if form is FORMS["OpenAILike"]:  # not asked to count, since a look-alike may refuse the request
        assert last.usage == Usage()
    else:
        assert last.usage == Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=3)


async def test_no_class_retries_by_itself(form: Form, server: FaultServer) -> None:
    server.default = Failure(500)
    async with used(form.build(server.url)) as llm:
        with pytest.raises(Exception, match="500") as raised:
            await LLMEndpoint(llm, Sampling()).reply(HELLO, {})
    assert server.attempts() == 1
    assert status_of(raised.value) == 500
    assert is_transient(raised.value)


async def test_every_classs_refused_connection_is_transient(form: Form) -> None:
    async with used(form.build(f"http://127.0.0.1:{free_port()}")) as llm:
        with pytest.raises(Exception) as raised:  # noqa: PT011 - each class raises its own
            await LLMEndpoint(llm, Sampling()).reply(HELLO, {})
    assert is_transient(raised.value)
    assert status_of(raised.value) is None


async def test_every_classs_retry_after_is_found(form: Form, server: FaultServer) -> None:
    server.default = Failure(429, {"Retry-After": "17"})
    async with used(form.build(server.url)) as llm:
        with pytest.raises(Exception, match="429") as raised:
            await LLMEndpoint(llm, Sampling()).reply(HELLO, {})
    assert status_of(raised.value) == 429
    assert is_transient(raised.value)
    if form is not FORMS["Ollama"]:  # its errors carry no headers
        assert retry_after(raised.value, datetime.now(timezone.utc)) == 17


def test_one_event_loop_after_another(form: Form, server: FaultServer) -> None:
    llm = form.build(server.url)
    endpoint = LLMEndpoint(llm, Sampling())

    async def ask() -> str:
        async with used(llm):
            return (await endpoint.reply(HELLO, {})).text

    for _ in range(2):
        assert asyncio.run(ask()).startswith("answer of")
    assert server.attempts() == 2


# Agents.


def _weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"rain in {city}"


def _calling(city: str) -> ChatMessage:
    call = ToolCallBlock(tool_call_id="1", tool_name="_weather", tool_kwargs={"city": city})
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[call])


def function_agent(script: Any, name: str = "forecaster") -> tuple[FunctionAgent, ScriptedLLM]:
    llm = ScriptedLLM(script, model="agent-llm", is_function_calling_model=True)
    tool = FunctionTool.from_defaults(_weather)
    return FunctionAgent(name=name, description="Knows weather.", tools=[tool], llm=llm), llm


def test_a_function_agent_proposes() -> None:
    agent, llm = function_agent([_calling("Oslo"), "It rains in Oslo."])
    plain = ScriptedLLM("No idea.", model="plain")
    final = ScriptedLLM("Take an umbrella.", model="final")
    response = MixtureOfAgentsPack(final, [agent, plain], num_layers=2).run("Weather in Oslo?")
    assert [(p.proposer, p.text) for p in response.proposals] == [
        ("forecaster", "It rains in Oslo."),
        ("plain", "No idea."),
    ]
    assert "rain in Oslo" in llm.calls[1].text  # the tool has run in between
    assert "It rains in Oslo." in final.calls[0].text
    assert (
        response.proposals[0].usage.completion_tokens == 4
    )  # of both its answers, the tool call has no words


def test_an_agent_sees_the_round_before() -> None:
    agent, llm = function_agent(["Rain, I think.", "Rain, as agreed."])
    plain = ScriptedLLM(["Certainly rain.", "Rain."], model="plain")
    MixtureOfAgentsPack(ScriptedLLM("final"), [agent, plain]).run("Weather in Oslo?")
    assert "Certainly rain." not in llm.calls[0].text
    assert "Certainly rain." in llm.calls[1].text
    assert "Weather in Oslo?" in llm.calls[1].text


def test_an_agent_workflow_and_a_react_agent_propose() -> None:
    inner, _ = function_agent(["Rain."], name="inner")
    react = ReActAgent(
        name="thinker", description="Thinks.", llm=ScriptedLLM("Thought: I know.\nAnswer: Drizzle.")
    )
    response = MixtureOfAgentsPack(
        ScriptedLLM("final"), [AgentWorkflow(agents=[inner]), react], num_layers=2
    ).run("Weather in Oslo?")
    assert not response.missing
    assert [proposal.text for proposal in response.proposals] == ["Rain.", "Drizzle."]


def test_an_agent_that_fails_is_missing() -> None:
    agent, _ = function_agent([RuntimeError("agent is down")])
    response = MixtureOfAgentsPack(
        ScriptedLLM("final"), [agent, ScriptedLLM("fine")], num_layers=2, max_retries=0
    ).run("Weather in Oslo?")
    (gone,) = response.missing
    assert gone.proposer == "forecaster"
    assert "agent is down" in gone.reason


def test_an_agent_is_cut_with_its_calls_in_flight() -> None:
    agent, llm = function_agent("late")
    llm.latency = 20
    response = MixtureOfAgentsPack(
        ScriptedLLM("final"), [agent, ScriptedLLM("fine")], num_layers=2, layer_timeout=0.3
    ).run("Weather in Oslo?")
    assert [gone.reason for gone in response.missing] == ["cut at layer_timeout of 0.3 s"]
    assert wait_until(lambda: llm._reel.in_flight == 0)


def test_only_agents_and_none_answers() -> None:
    agent, _ = function_agent([RuntimeError("agent is down")])
    with pytest.raises(MixtureError, match="agent is down"):
        MixtureOfAgentsPack(ScriptedLLM([RuntimeError("no")]), [agent], num_layers=2, max_retries=0).run(
            "Why?"
        )


class _SaysString:
    """The least that is called an agent: a `run` whose handler gives any object."""

    name = "least"

    def run(self, user_msg: ChatMessage, chat_history: list[ChatMessage]) -> asyncio.Future[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.set_result(f"heard {user_msg.content!r} after {len(chat_history)}")
        return future


async def test_an_agents_output_may_be_any_object() -> None:
    history = [ChatMessage(content="earlier"), ChatMessage(content="now")]
    endpoint = AgentEndpoint(_SaysString())
    reply = await endpoint.reply(history, {})
    assert reply.text == "heard 'now' after 1"
    assert reply.message.role == MessageRole.ASSISTANT
    (piece,) = [piece async for piece in endpoint.stream(history, {})]
    assert piece.delta == piece.text == reply.text


class _Says:
    """An agent whose `run` gives what it is told to."""

    def __init__(self, output: Any) -> None:
        self._output = output

    def run(self, **_: object) -> Any:
        return self._output() if callable(self._output) else self._output


async def _said() -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content="said")


@pytest.mark.parametrize("output", ["said", ChatMessage(role="assistant", content="said"), _said])
async def test_an_agents_run_may_give_a_plain_value_or_a_coroutine(output: Any) -> None:
    assert (await AgentEndpoint(_Says(output)).reply(HELLO, {})).text == "said"


async def _nothing() -> None: ...


@pytest.mark.parametrize("output", [None, _nothing, lambda: iter("x")])
async def test_an_agents_run_that_gives_no_answer_is_named(output: Any) -> None:
    with pytest.raises(MixtureError, match=r"run\(\) of the agent _Says gave"):
        await AgentEndpoint(_Says(output)).reply(HELLO, {})


def test_an_agent_may_write_the_answer() -> None:
    agent, _ = function_agent("Rain.")
    response = MixtureOfAgentsPack(Proposer(agent, name="chief"), [ScriptedLLM("a")], num_layers=2).run(
        "Why?"
    )
    assert str(response) == "Rain."
    assert response.synthesizer == "chief"


def test_a_model_with_async_methods_is_asked_through_them_once() -> None:
    llm = ScriptedLLM("x")
    MixtureOfAgentsPack(llm, [llm], num_layers=2).run("Why?")
    assert [call.method for call in llm.calls] == ["achat", "achat"]


class WithoutAsync(ScriptedLLM):
    """A class whose async method only says that it has none, as some integrations' do."""

    def __init__(self) -> None:
        super().__init__("from a thread")

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        raise NotImplementedError("no async here")


async def test_a_class_that_refuses_async_calls_runs_in_a_thread() -> None:
    llm = WithoutAsync()
    endpoint = LLMEndpoint(llm, Sampling())
    reply = await endpoint.reply([ChatMessage(content="q")], {})
    assert reply.text == "from a thread"
    assert [call.method for call in llm.calls] == ["chat"]
    assert not endpoint.stoppable
