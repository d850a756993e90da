"""The faults of LangChain's sample of a mixture of agents, each shown not to be ours, through the real pack.

The sample asked proposers one after another, gave all the same "temperature", put answers through a format
string, passed on the last aggregate alone, ran a round too many, streamed what was already whole, and set
attributes of the caller's models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ChatResponseAsyncGen, MessageRole
from llama_index.core.llms.callbacks import llm_chat_callback

from llama_index.packs.mixture_of_agents import DeltaEvent, MixtureOfAgentsPack, MixtureResponse, Proposer
from llama_index.packs.mixture_of_agents.config import MixtureConfig
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM

LATENCY = 0.3


def drafters(count: int) -> list[ScriptedLLM]:
    return [ScriptedLLM(f"draft of m{n}", model=f"m{n}") for n in range(count)]


# Fault 1: `for model in models: model.invoke(...)`.


def test_proposers_do_not_run_one_after_another() -> None:
    models = [LatencyLLM(LATENCY, model=f"m{n}") for n in range(8)]
    response = MixtureOfAgentsPack(ScriptedLLM("answer"), models, num_layers=2).run("Why?")
    assert len(response.proposals) == 8
    assert response.latency_seconds < 4 * LATENCY  # one after another: 8


def test_samples_of_one_model_do_not_run_one_after_another() -> None:
    model = LatencyLLM(LATENCY)
    MixtureOfAgentsPack(
        ScriptedLLM("answer"), [model], num_layers=2, strategy="self", nb_models_by_layer=8
    ).run("Why?")
    assert model.peak_in_flight == 8


# Fault 2: the temperature strategy set one and the same value for all.


@pytest.mark.parametrize("temperatures", [None, [0.1, 0.4, 0.7, 1.0], "0.2..1.1"])
def test_temperatures_are_not_all_the_same_value(temperatures: Any) -> None:
    model = ScriptedLLM("draft", model="m")
    MixtureOfAgentsPack(
        ScriptedLLM("answer"),
        [model],
        num_layers=2,
        strategy="temperature",
        temperatures=temperatures,
        nb_models_by_layer=4,
    ).run("Why?")
    sent = [call.options["temperature"] for call in model.calls]
    assert len(set(sent)) == len(sent) == 4


# Fault 3: answers became part of a format string, so that `{` raised, and the aggregator was tried for ever.

BRACES = ["{", "}", "{context}", "{0} {} {{x}} %s %(name)s", '{"json": [1, 2]}', "$x ${y}", "f'{1/0}'"]


@pytest.mark.parametrize("text", BRACES)
def test_a_brace_in_an_answer_or_question_is_only_a_brace(text: str) -> None:
    model, aggregator = ScriptedLLM(text, model="m"), ScriptedLLM(text, model="g")
    response = MixtureOfAgentsPack(aggregator, [Proposer(model, role=text)], num_layers=3).run(text)
    assert response.text == text
    assert not response.degraded
    assert [len(model.calls), len(aggregator.calls)] == [2, 1]
    refining = model.calls[1].messages
    assert text in (refining[0].content or "")
    assert refining[-1].content == text


@pytest.mark.parametrize(
    "error", [KeyError("context"), ValueError("Single '}' encountered"), IndexError("{}")]
)
def test_an_aggregator_that_fails_is_not_tried_for_ever(error: Exception) -> None:
    aggregator, model = ScriptedLLM(lambda _: error, model="g"), ScriptedLLM("draft", model="m")
    response = MixtureOfAgentsPack(aggregator, [model], num_layers=2).run("Why?")
    assert len(aggregator.calls) == 1
    assert response.synthesizer == "m"
    assert [gone.proposer for gone in response.missing] == ["g"]


def test_an_aggregator_that_is_busy_for_ever_is_tried_as_often_as_was_said() -> None:
    aggregator, model = (
        ScriptedLLM(lambda _: TimeoutError("busy"), model="g"),
        ScriptedLLM("draft", model="m"),
    )
    response = MixtureOfAgentsPack(aggregator, [model], num_layers=2, max_retries=1).run("Why?")
    assert len(aggregator.calls) == 2
    assert response.synthesizer == "m"


# Fault 4: each layer was given the last aggregate alone.


def test_every_proposal_reaches_the_next_layer() -> None:
    models, aggregator = drafters(3), ScriptedLLM("answer", model="g")
    MixtureOfAgentsPack(aggregator, models, num_layers=4).run("Why?")
    for call in [call for model in models for call in model.calls[1:]] + aggregator.calls:
        assert all(f"draft of m{n}" in call.text for n in range(3))


def test_where_one_text_is_passed_on_it_is_this_rounds_and_the_answer_still_sees_every_proposal() -> None:
    def condense(messages: Sequence[ChatMessage]) -> str:
        aggregator_calls = len(aggregator.calls)
        return f"condensed {aggregator_calls}"

    models, aggregator = drafters(3), ScriptedLLM(condense, model="g")
    pack = MixtureOfAgentsPack(aggregator, models, num_layers=4, pass_on="condensed")
    response = pack.run("Why?")
    assert [record.text for record in response.condensed] == ["condensed 1", "condensed 2"]
    for model in models:
        assert [f"condensed {n}" in model.calls[n].text for n in (1, 2)] == [True, True]
        assert "condensed 1" not in model.calls[2].text
    for call in aggregator.calls:
        assert all(f"draft of m{n}" in call.text for n in range(3))


# Fault 5: `--layer N` ran N + 1 rounds.


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_so_many_layers_are_so_many_and_not_one_more(layers: int) -> None:
    model, aggregator = ScriptedLLM("draft", model="m"), ScriptedLLM("answer", model="g")
    response = MixtureOfAgentsPack(aggregator, [model], num_layers=layers).run("Why?")
    assert len(model.calls) == layers - 1
    assert len(aggregator.calls) == 1
    assert sorted({proposal.layer for proposal in response.proposals}) == list(range(1, layers))


def test_the_samples_own_name_counts_the_same() -> None:
    config = MixtureConfig(models_layer=["openai:gpt-4o-mini"], layer=3)
    assert config.num_layers == 3


# Fault 6: the whole answer was there before its first piece was shown.


class WaitingLLM(ScriptedLLM):
    """Streams its second piece only when somebody has seen the first."""

    def __init__(self, seen: asyncio.Event) -> None:
        super().__init__("", model="waiting")
        self._seen = seen

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """One piece, and after it was seen the other."""

        async def pieces() -> ChatResponseAsyncGen:
            yield _piece("first ", "first ")
            await self._seen.wait()
            yield _piece("first second", "second")

        return pieces()


def _piece(text: str, delta: str) -> ChatResponse:
    return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text), delta=delta)


async def test_a_piece_is_there_before_the_next_one_is_made() -> None:
    seen = asyncio.Event()
    pack = MixtureOfAgentsPack(WaitingLLM(seen), drafters(2), num_layers=2, timeout=20)
    shown, response = [], None
    async for item in pack.astream("Why?"):
        if isinstance(item, DeltaEvent):
            shown.append(item.delta)
            seen.set()
        elif isinstance(item, MixtureResponse):
            response = item
    assert shown == ["first ", "second"]
    assert response is not None
    assert response.text == "first second"
    assert not response.degraded


# Fault 7: `model.temperature = ...` on objects that others use, too.


class SettledLLM(ScriptedLLM):
    """An LLM with settings of its own, as real classes have them."""

    temperature: float = 0.11
    max_tokens: int = 111

    def __init__(self) -> None:
        super().__init__("draft", model="settled")


@pytest.mark.parametrize("strategy", ["model", "role", "temperature", "self"])
def test_shared_models_stay_as_they_were(strategy: str) -> None:
    shared = SettledLLM()
    before, attributes = shared.model_dump_json(), set(vars(shared))
    options: dict[str, Any] = {"temperature": 0.9, "max_tokens": 9, "nb_models_by_layer": 3}
    pack = MixtureOfAgentsPack(shared, [shared, Proposer(shared, seed=5)], 2, strategy=strategy, **options)
    pack.run("Why?")
    assert shared.model_dump_json() == before
    assert set(vars(shared)) == attributes
    assert len(shared.calls) == 4 + (strategy == "role")


async def test_two_mixtures_share_a_model_at_once_each_with_its_own_settings() -> None:
    shared = LatencyLLM(0.05, model="shared")
    packs = [
        MixtureOfAgentsPack(ScriptedLLM("answer"), [shared], 2, temperature=value)
        for value in (0.1, 0.2, 0.3)
    ]
    await asyncio.gather(*(pack.arun(f"at {n}") for n, pack in enumerate(packs, 1)))
    sent = {call.messages[-1].content: call.options["temperature"] for call in shared.calls}
    assert sent == {"at 1": 0.1, "at 2": 0.2, "at 3": 0.3}
