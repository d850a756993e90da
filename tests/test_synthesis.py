"""The synthesis: who may write it, in how many passes, and that every proposal is seen by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.utils import get_tokenizer

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack, Proposal, Proposer
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.errors import BrokenStreamError
from llama_index.packs.mixture_of_agents.runs.mixture import Mixture, seat_mixture
from llama_index.packs.mixture_of_agents.seats.seat import Seat
from llama_index.packs.mixture_of_agents.synthesis import Reading, candidates, reading_for, speak
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

QUESTION = [ChatMessage(content="Why is the sky blue?")]


class Agent:
    name = "agent"

    def run(self, **_: object) -> None: ...


class SyncOnly(CustomLLM):
    """A class with nothing but the sync methods CustomLLM asks for."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="sync")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text="one two")

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        yield CompletionResponse(text="one ", delta="one ")
        yield CompletionResponse(text="one two", delta="two")


class Streams(ScriptedLLM):
    """Streams the pieces it is given, and nothing of its script."""

    pieces: list[ChatResponse | str]

    def __init__(self, pieces: list[ChatResponse | str]) -> None:
        super().__init__("unused", pieces=pieces)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        async def stream() -> ChatResponseAsyncGen:
            for piece in self.pieces:
                if isinstance(piece, str):
                    raise ConnectionError(piece)
                yield piece

        return stream()


class CannotStream(ScriptedLLM):
    def __init__(self, script: str) -> None:
        super().__init__(script)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        raise NotImplementedError


def seat(model: Any, **settings: Any) -> Seat:
    return Seat.of(Proposer(model, **settings), Sampling())


def proposals(texts: Sequence[str], layer: int = 1) -> list[Proposal]:
    return [Proposal(proposer=f"p{n}", layer=layer, text=text) for n, text in enumerate(texts)]


def piece(text: str, delta: str | None) -> ChatResponse:
    return ChatResponse(message=ChatMessage(role="assistant", content=text), delta=delta)


def task(*references: str) -> Reading:
    return reading_for(seat(ScriptedLLM("x")), QUESTION, proposals(references), [])


def prompt(*references: str) -> list[ChatMessage]:
    return task(*references).prompt(0, "")


async def heard(model: Any) -> tuple[str, list[str]]:
    deltas: list[str] = []
    reply = await speak(seat(model), prompt("draft"), {}, deltas.append)
    return reply.text, deltas


@given(texts=st.lists(st.text(alphabet="ab ", min_size=1, max_size=30), max_size=8))
def test_references_that_fit_are_read_in_one_pass(texts: list[str]) -> None:
    synthesis = task(*texts)
    assert synthesis.turns == 1
    (system, *_) = synthesis.prompt(0, "")
    assert not texts or all(text.strip() in (system.content or "") for text in texts)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=8), window=st.integers(50, 3000))
def test_every_reference_is_in_exactly_one_pass_in_order(lengths: list[int], window: int) -> None:
    texts = [f"<{n}> " + "word " * length for n, length in enumerate(lengths)]
    synthesis = reading_for(seat(ScriptedLLM("x", context_window=window)), QUESTION, proposals(texts), [])
    so_far = "SO FAR" + max(texts, key=len)[6:]
    passes = [
        "\n".join(m.content or "" for m in synthesis.prompt(turn, so_far)) for turn in range(synthesis.turns)
    ]
    found = [[n for n in range(len(texts)) if f"<{n}> " in read] for read in passes]
    assert [n for read in found for n in read] == list(range(len(texts)))
    assert ["SO FAR" in read for read in passes] == [False] + [True] * (len(passes) - 1)
    # One reference may be too long for any window; several are only put together where they fit.
    tokenize = get_tokenizer()
    assert all(
        len(tokenize(read)) <= window for read, inside in zip(passes, found, strict=True) if len(inside) > 1
    )


def test_the_answers_own_length_is_kept_free_in_the_window() -> None:
    texts = ["word " * 400] * 4
    whole = reading_for(seat(ScriptedLLM("x", context_window=2600)), QUESTION, proposals(texts), [])
    brief = seat(ScriptedLLM("x", context_window=2600), max_tokens=1500)
    assert whole.turns == 1
    assert reading_for(brief, QUESTION, proposals(texts), []).turns > 1


@pytest.mark.parametrize(
    "model", [ScriptedLLM("x", context_window=0), ScriptedLLM("x", context_window=-1), Agent()]
)
def test_an_unknown_window_is_not_guessed(model: Any) -> None:
    assert reading_for(seat(model), QUESTION, proposals(["word " * 5000] * 3), []).turns == 1


def mixture(*layers: list[Any], aggregator: Any = None) -> Mixture:
    return seat_mixture(list(layers), aggregator or ScriptedLLM("x", model="g"), num_layers=len(layers) + 1)


def named(*names: str) -> list[ScriptedLLM]:
    return [ScriptedLLM("x", model=name) for name in names]


def test_the_aggregator_comes_first_then_the_models_of_the_last_round_that_answered() -> None:
    seated = mixture(named("a", "b"), [*named("c", "d"), Agent(), *named("e")])
    answered = [Proposal(proposer=name, layer=2, text="x") for name in ("c", "agent", "e")]
    assert [seat.name for seat in candidates(seated.aggregator, seated.layers, answered)] == ["g", "c", "e"]
    answered = [Proposal(proposer="b", layer=1, text="x")]
    assert [seat.name for seat in candidates(seated.aggregator, seated.layers, answered)] == ["g", "b"]
    assert [seat.name for seat in candidates(seated.aggregator, seated.layers, [])] == ["g"]


async def test_each_piece_is_passed_on_as_it_comes() -> None:
    assert await heard(ScriptedLLM("one two three")) == ("one two three", ["one ", "two ", "three"])


async def test_a_class_with_sync_methods_only_streams_too() -> None:
    assert await heard(SyncOnly()) == ("one two", ["one ", "two"])


async def test_a_class_that_cannot_stream_answers_in_one_piece() -> None:
    assert await heard(CannotStream("one two")) == ("one two", ["one two"])


async def test_pieces_with_only_deltas_or_only_texts_give_the_same_answer() -> None:
    only_deltas = Streams([piece("", "one "), piece("", "two")])
    only_texts = Streams([piece("one ", None), piece("one two", None)])
    assert await heard(only_deltas) == await heard(only_texts) == ("one two", ["one ", "two"])


async def test_pieces_with_only_deltas_in_the_place_of_texts_are_put_together() -> None:
    model = Streams([piece("a ", None), piece("b ", None), piece("c", None)])
    assert await heard(model) == ("a b c", ["a ", "b ", "c"])


async def test_a_last_piece_that_trims_the_text_adds_nothing() -> None:
    model = Streams([piece(" one ", " one "), piece(" one two ", "two "), piece("one two", None)])
    assert await heard(model) == (" one two ", [" one ", "two "])


@pytest.mark.parametrize("later", [[], [piece("", None)]], ids=["last", "earlier"])
async def test_a_tool_call_in_a_stream_of_deltas_is_kept(later: list[ChatResponse | str]) -> None:
    call = ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 1})
    message = ChatMessage(role="assistant", blocks=[call], additional_kwargs={"k": 1})
    calling = ChatResponse(message=message, delta="")
    model = Streams([piece("", "Let me "), piece("", "see."), calling, *later])
    reply = await speak(seat(model), prompt("draft"), {}, lambda _: None)
    assert reply.message.blocks == [TextBlock(text="Let me see."), call]


CALLED = ChatMessage(
    role="assistant", blocks=[ToolCallBlock(tool_call_id="1", tool_name="add", tool_kwargs={"a": 1})]
)
TOOL_TURNS = [
    *QUESTION,
    CALLED,
    ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "1"}),
]


@pytest.mark.parametrize("on_delta", [None, lambda _: None], ids=["whole", "streamed"])
async def test_tool_turns_stay_as_they_are_for_the_call_that_offers_tools_alone(on_delta: Any) -> None:
    model = ScriptedLLM(lambda _: "so far", context_window=1000)
    with_tools = reading_for(seat(model), TOOL_TURNS, [], []).prompt(0, "")
    await speak(seat(model), with_tools, {"tools": ["t"]}, on_delta)
    await speak(seat(model), with_tools, {}, on_delta)
    offered, without = model.calls
    assert offered.messages == TOOL_TURNS
    told = without.messages[1:]
    assert [message.content for message in told] == ['(called add with {"a": 1})', "Result of add: 3"]


async def test_a_stream_that_breaks_is_told_apart_by_whether_anything_was_passed_on() -> None:
    with pytest.raises(BrokenStreamError, match="part-way: dead"):
        await heard(Streams([piece("one", "one"), "dead"]))
    with pytest.raises(ConnectionError, match="dead"):
        await heard(Streams(["dead"]))


async def test_with_nobody_listening_the_answer_is_asked_for_in_one_piece() -> None:
    model = ScriptedLLM("one two")
    reply = await speak(seat(model), prompt("draft"), {}, None)
    assert (reply.text, model.calls[0].method) == ("one two", "achat")


async def test_only_the_last_pass_is_streamed_and_offered_tools_and_usage_counts_all() -> None:
    answers = ["<think>x</think>first pass", "second pass", "the answer"]
    model = ScriptedLLM(answers, context_window=1000, model="g", is_function_calling_model=True)
    drafts = [ScriptedLLM(f"{word} " * 350, model=word) for word in ("alpha", "beta", "gamma")]
    broken = ScriptedLLM(lambda _: ValueError("down"), model="z")
    llm = MixtureOfAgentsPack(model, [*drafts, broken], 2).as_llm()
    pieces = [piece async for piece in await llm.astream_chat(TOOL_TURNS, tools=["t"])]

    assert [call.method for call in model.calls] == ["achat", "achat", "astream_chat"]
    assert [call.options for call in model.calls] == [{}, {}, {"tools": ["t"]}]
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].message.content == "the answer"
    assert "first pass" in model.calls[1].text
    assert "<think>" not in model.calls[1].text
    assert "second pass" in model.calls[2].text
    assert all("No draft came from: z." in call.text for call in model.calls)
    assert [message.content for message in model.calls[0].messages[2:]] == [
        '(called add with {"a": 1})',
        "Result of add: 3",
    ]
    assert model.calls[2].messages[1:] == TOOL_TURNS


async def test_usage_counts_every_pass() -> None:
    model = ScriptedLLM(["first pass", "second pass", "the answer"], context_window=1000, model="g")
    drafts = [ScriptedLLM(f"{word} " * 350, model=word) for word in ("alpha", "beta", "gamma")]
    response = await MixtureOfAgentsPack(model, drafts, 2).arun("Why?")
    calls = [*model.calls, *(call for draft in drafts for call in draft.calls)]
    assert len(model.calls) == 2
    assert response.usage.completion_tokens == 2 * 2 + 3 * 350
    assert response.usage.prompt_tokens == sum(len(call.text.split()) for call in calls)


async def test_overflowing_references_are_all_seen_in_order_whatever_the_door() -> None:
    texts = [f"[{n}] " + "word " * 300 for n in range(5)]
    for streams in (False, True):
        aggregator = ScriptedLLM(lambda _: "so far", context_window=1200, model="g")
        models = [ScriptedLLM(text, model=f"p{n}") for n, text in enumerate(texts)]
        pack = MixtureOfAgentsPack(aggregator, models, 2)
        if streams:
            items: list[Any] = [item async for item in pack.astream("Why?")]
            response = items[-1]
        else:
            response = await pack.arun("Why?")
        assert (response.text, response.degraded) == ("so far", False)
        assert len(aggregator.calls) > 1
        seen = [n for call in aggregator.calls for n in range(5) if f"[{n}] " in call.text]
        assert seen == [0, 1, 2, 3, 4]


async def test_the_aggregators_role_opens_its_system_message_and_no_stand_ins_does() -> None:
    editor, critic = ScriptedLLM("answer", model="editor"), ScriptedLLM("draft", model="critic")
    seated = [Proposer(critic, role="You are a critic.")]
    await MixtureOfAgentsPack(Proposer(editor, role="You are an editor."), seated).arun("why?")
    assert (editor.calls[-1].messages[0].content or "").startswith("You are an editor.")
    down = ScriptedLLM(lambda messages: ValueError("down"), model="down")
    response = await MixtureOfAgentsPack(Proposer(down, role="You are an editor."), seated).arun("why?")
    assert response.synthesizer == "critic"
    assert "You are a" not in critic.calls[-1].text
