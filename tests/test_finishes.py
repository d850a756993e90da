"""Ways to finish: written, written in passes, chosen, voted; each through a whole run."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock

from llama_index.packs.mixture_of_agents import (
    ConfigurationError,
    DeltaEvent,
    MixtureError,
    MixtureOfAgentsPack,
    MixtureResponse,
    ProgressEvent,
    Proposal,
)
from llama_index.packs.mixture_of_agents.finishes import (
    Desk,
    Finished,
    Request,
    Sequential,
    Vote,
    finish_named,
)
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


def drafts(*texts: str) -> list[ScriptedLLM]:
    return [ScriptedLLM(text, model=f"p{n}") for n, text in enumerate(texts, 1)]


def asked(finish: Any, texts: Sequence[str], aggregator: Any = "written", **options: Any) -> MixtureResponse:
    model = aggregator if isinstance(aggregator, ScriptedLLM) else ScriptedLLM(aggregator, model="g")
    return MixtureOfAgentsPack(model, drafts(*texts), 2, finish=finish, max_retries=0, **options).run("Why?")


# Vote


def test_a_vote_asks_no_aggregator_and_its_answer_is_the_first_proposal_of_the_majority() -> None:
    aggregator = ScriptedLLM("never asked", model="g")
    response = asked(Vote("number"), ["It is 41.", "It is 42.", "So: 42"], aggregator)
    assert (response.text, response.synthesizer, response.finish) == ("It is 42.", "p2", "vote")
    assert aggregator.calls == []
    assert response.decision is not None
    assert response.decision.answer == "42"
    assert response.decision.votes == {"41": ["p1"], "42": ["p2", "p3"]}
    assert not response.degraded


def test_a_tie_is_reported_and_goes_to_the_earliest() -> None:
    response = asked(Vote("number"), ["1", "2", "2", "1"])
    assert response.decision is not None
    assert response.decision.ties == ["1", "2"]
    assert response.decision.chosen == "p1"


def test_a_vote_without_any_answer_says_so_and_gives_the_first_proposal() -> None:
    response = asked(Vote("number"), ["no idea", "me neither"])
    assert response.decision is not None
    assert (response.text, response.decision.answer) == ("no idea", None)
    assert response.decision.abstained == ["p1", "p2"]


def test_an_extractor_of_the_callers_that_fails_abstains_and_is_named() -> None:
    def picky(text: str) -> str | None:
        if "one" in text:
            raise LookupError("one is not for me")
        return "yes"

    response = asked(Vote(picky), ["one", "two"])
    assert response.decision is not None
    assert response.decision.abstained == ["p1"]
    assert "p1" in response.decision.reason
    assert "one is not for me" in response.decision.reason


def test_weights_decide_a_vote() -> None:
    response = asked(Vote("number", weights={"p1": 3.0}), ["1", "2", "2"])
    assert response.text == "1"


def test_thinking_has_no_vote() -> None:
    response = asked(Vote("number"), ["<think>7, or 8?</think>It is 9", "9", "<think>9</think>1"])
    assert response.decision is not None
    assert response.decision.votes == {"9": ["p1", "p2"], "1": ["p3"]}


# Rank


@pytest.mark.parametrize("said", ['{"choice": 2, "reason": "it is right"}', "Draft 2 is best: it is right"])
def test_the_chosen_draft_is_the_answer_word_for_word_and_the_reason_is_kept(said: str) -> None:
    response = asked("rank", ["first", " second { % } ", "third"], said)
    assert (response.text, response.synthesizer) == (" second { % } ", "p2")
    assert response.decision is not None
    assert "right" in response.decision.reason
    assert response.usage.completion_tokens == 1 + 4 + 1 + len(said.split())


def test_a_function_calling_aggregator_chooses_by_a_tool_call() -> None:
    call = ToolCallBlock(tool_call_id="1", tool_name="Choice", tool_kwargs={"choice": 1, "reason": "short"})
    model = ScriptedLLM(
        lambda _: ChatMessage(role="assistant", blocks=[call]), model="g", is_function_calling_model=True
    )
    response = asked("rank", ["first", "second"], model)
    assert response.text == "first"
    assert model.calls[0].options["tools"]


class RefusesTools(ScriptedLLM):
    """Its class says that it calls functions; its server answers 400 to them."""

    def __init__(self, script: str) -> None:
        super().__init__(script, model="g", is_function_calling_model=True)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        if "tools" in kwargs:
            error = ValueError("tools are not supported")
            error.status_code = 400  # type: ignore[attr-defined]
            raise error
        response: ChatResponse = await super().achat(messages, **kwargs)
        return response


def test_a_server_that_refuses_the_shape_is_asked_in_words() -> None:
    model = RefusesTools("Draft 2 is best.")
    response = asked("rank", ["first", "second"], model)
    assert (response.text, response.degraded) == ("second", False)
    assert len(model.calls) == 1


@pytest.mark.parametrize("said", ["all are fine", '{"choice": 9, "reason": "x"}', "{}"])
def test_a_choice_that_cannot_be_read_goes_to_the_next_writer_and_is_told(said: str) -> None:
    def judged(messages: Sequence[ChatMessage]) -> str:
        return '{"choice": 1, "reason": "stand-in"}' if "draft 1" in (messages[0].content or "") else "own"

    models = [ScriptedLLM(judged, model=name) for name in ("p1", "p2")]
    pack = MixtureOfAgentsPack(ScriptedLLM(said, model="g"), models, 2, finish="rank")
    response = pack.run("Why?")
    assert response.text == "own"
    assert [gone.proposer for gone in response.missing] == ["g"]
    assert "could not be read" in response.missing[0].reason


def test_when_nobody_can_choose_the_first_proposal_stands() -> None:
    response = asked("rank", ["first", "second"], ScriptedLLM(lambda _: ValueError("down"), model="g"))
    assert response.text == "first"
    assert [gone.proposer for gone in response.missing] == ["g", "p1", "p2"]


def test_one_proposal_is_chosen_without_a_call() -> None:
    aggregator = ScriptedLLM("never asked", model="g")
    assert asked("rank", ["only"], aggregator).text == "only"
    assert aggregator.calls == []


def test_drafts_too_long_for_the_window_are_ranked_over_a_sliding_one() -> None:
    texts = [f"[{n}] " + "word " * 300 for n in range(5)]

    def last_of_the_window(messages: Sequence[ChatMessage]) -> str:
        count = (messages[0].content or "").count("end of draft")
        return f'{{"choice": {count}, "reason": "later is better"}}'

    judge = ScriptedLLM(last_of_the_window, context_window=1400, model="g")
    response = asked("rank", texts, judge)
    assert response.text == texts[4]
    assert len(judge.calls) > 1
    assert "[0] " in judge.calls[0].text
    later = judge.calls[1].text
    assert sum(f"[{n}] " in later for n in range(5)) >= 2, "the best so far stands beside the next ones"


# Sequential


@settings(max_examples=25)
@given(count=st.integers(1, 12), window=st.integers(2, 6))
def test_a_sequence_takes_as_many_passes_as_its_window_asks_for(count: int, window: int) -> None:
    aggregator = ScriptedLLM(lambda _: "so far", model="g")
    response = asked(Sequential(window), [f"[{n}] draft" for n in range(count)], aggregator)
    expected = 1 if count <= window else 1 + math.ceil((count - window) / (window - 1))
    assert len(aggregator.calls) == expected
    seen = [n for call in aggregator.calls for n in range(count) if f"[{n}] " in call.text]
    assert seen == list(range(count))
    assert all("so far" in call.text for call in aggregator.calls[1:])
    assert all(call.text.count("end of draft") <= window for call in aggregator.calls)
    assert response.text == "so far"


def test_a_pass_that_fails_hands_the_whole_to_a_stand_in() -> None:
    def second_fails(messages: Sequence[ChatMessage]) -> str | ValueError:
        return ValueError("down") if "so far" in (messages[0].content or "") else "so far"

    response = asked(Sequential(2), ["a", "b", "c"], ScriptedLLM(second_fails, model="g"))
    assert (response.text, response.synthesizer) == ("a", "p1")
    assert [gone.proposer for gone in response.missing] == ["g"]


# All of them


@pytest.mark.parametrize("finish", ["synthesize", "sequential", "rank", "vote"])
def test_with_no_proposal_at_all_the_aggregator_answers_alone(finish: str) -> None:
    broken = [ScriptedLLM(lambda _: ValueError("down"), model=f"p{n}") for n in range(3)]
    response = MixtureOfAgentsPack(ScriptedLLM("alone", model="g"), broken, 2, finish=finish).run("Why?")
    assert (response.text, response.synthesizer) == ("alone", "g")
    assert len(response.missing) == 3


@pytest.mark.parametrize("finish", ["synthesize", "sequential", "rank", "vote"])
async def test_every_door_gives_the_same_answer(finish: str) -> None:
    def pack() -> MixtureOfAgentsPack:
        judge = ScriptedLLM('{"choice": 2, "reason": "r"}', model="g")
        return MixtureOfAgentsPack(judge, drafts("the 1", "the 2", "the 2"), 2, finish=finish)

    whole = await pack().arun("Why?")
    items = [item async for item in pack().astream("Why?")]
    streamed = items[-1]
    assert isinstance(streamed, MixtureResponse)
    pieces = "".join(item.delta for item in items if isinstance(item, DeltaEvent))
    spoken = await pack().as_llm().achat([ChatMessage(content="Why?")])
    assert pieces == streamed.text == whole.text == spoken.message.content
    assert streamed.decision == whole.decision
    opened = [item for item in items if isinstance(item, ProgressEvent) and item.kind == "synthesis"]
    assert [event.proposer for event in opened] == [whole.synthesizer]


@pytest.mark.parametrize("finish", ["rank", "vote"])
def test_where_nothing_is_written_nobody_calls_tools_and_options_are_refused(finish: str) -> None:
    model = ScriptedLLM("x", is_function_calling_model=True)
    llm = MixtureOfAgentsPack(model, drafts("a", "b"), 2, finish=finish).as_llm()
    assert not llm.metadata.is_function_calling_model
    with pytest.raises(ConfigurationError, match="would reach nobody"):
        llm.complete("Why?", temperature=0.1)


class Shortest:
    """A way to finish of the caller's own: asks once, then takes the shortest proposal."""

    name = "shortest"
    writes = False

    def described(self) -> dict[str, Any]:
        return {"name": self.name}

    async def finish(self, desk: Desk) -> Finished | None:
        record, _ = await desk.ask(Request(0, [ChatMessage(content="Any objection?")]))
        if not isinstance(record, Proposal):
            return None
        return Finished(min(desk.proposals, key=lambda proposal: len(proposal.text)))


def test_a_way_of_the_callers_own_is_used() -> None:
    aggregator = ScriptedLLM("none", model="g")
    response = asked(Shortest(), ["longer", "short", "longest of all"], aggregator)
    assert (response.text, response.finish) == ("short", "shortest")
    assert aggregator.calls[0].text == "Any objection?"


@pytest.mark.parametrize("finish", ["sinthesize", 3, None, Shortest, object()])
def test_what_is_no_way_to_finish_is_refused_with_those_there_are(finish: object) -> None:
    with pytest.raises(ConfigurationError, match="'synthesize', 'sequential', 'rank', 'vote'"):
        finish_named(finish)


@pytest.mark.parametrize("window", [1, 0, -3, 2.5, True, "4"])
def test_a_window_that_cannot_move_is_refused(window: Any) -> None:
    with pytest.raises(ConfigurationError, match="window must be a whole number >= 2"):
        Sequential(window)


# Ways of the caller's own, and what they may do wrong


class Own:
    """A way to finish made of one function."""

    name = "own"
    writes = True

    def __init__(self, finish: Callable[[Desk], Awaitable[Any]]) -> None:
        self._finish = finish

    def described(self) -> dict[str, Any]:
        return {"name": self.name}

    async def finish(self, desk: Desk) -> Finished | None:
        finished: Finished | None = await self._finish(desk)
        return finished


async def _asked_plainly(desk: Desk) -> Finished | None:
    record, message = await desk.ask(Request(0, desk.messages))
    return Finished(record, message) if isinstance(record, Proposal) else None


async def test_words_that_were_not_streamed_as_the_answer_are_streamed_at_the_end() -> None:
    pack = MixtureOfAgentsPack(ScriptedLLM("the answer"), drafts("a", "b"), 2, finish=Own(_asked_plainly))
    items = [item async for item in pack.astream("Why?")]
    assert "".join(item.delta for item in items if isinstance(item, DeltaEvent)) == "the answer"


def test_a_writer_asked_twice_in_one_turn_is_a_mistake_that_is_named() -> None:
    async def twice(desk: Desk) -> Finished | None:
        await desk.ask(Request(0, desk.messages))
        return await _asked_plainly(desk)

    with pytest.raises(MixtureError, match="asks g twice in turn 0; give each Request a turn of its own"):
        asked(Own(twice), ["a", "b"])


def test_a_critique_and_then_the_answer_are_two_turns() -> None:
    async def critical(desk: Desk) -> Finished | None:
        await desk.ask(Request(0, desk.messages, turn=0))
        record, message = await desk.ask(Request(0, desk.messages, turn=1, is_answer=True))
        return Finished(record, message) if isinstance(record, Proposal) else None

    response = asked(Own(critical), ["a", "b"], ScriptedLLM(["weak", "the answer"], model="g"))
    assert response.text == "the answer"
    assert response.usage.completion_tokens == 1 + 1 + 1 + 2


def test_two_asked_at_once_do_not_mix_what_is_streamed() -> None:
    async def both(desk: Desk) -> Finished | None:
        answer = desk.ask(Request(0, desk.messages, turn=0, is_answer=True))
        record, message = (await asyncio.gather(answer, desk.ask(Request(0, desk.messages, turn=1))))[0]
        return Finished(record, message) if isinstance(record, Proposal) else None

    model = ScriptedLLM(lambda _: "one two three", latency=0.01)
    pack = MixtureOfAgentsPack(model, drafts("a", "b"), 2, finish=Own(both))

    async def heard() -> str:
        items = [item async for item in pack.astream("Why?")]
        return "".join(item.delta for item in items if isinstance(item, DeltaEvent))

    assert asyncio.run(heard()) == "one two three"


@pytest.mark.parametrize("given", ["text", 3, Finished(None)])  # type: ignore[arg-type]
def test_a_way_that_gives_something_else_fails_with_its_name(given: Any) -> None:
    async def wrong(desk: Desk) -> Any:
        return given

    with pytest.raises(MixtureError, match="The finish 'own' gave"):
        asked(Own(wrong), ["a", "b"])


def test_a_way_that_raises_fails_with_its_name_and_cause() -> None:
    async def broken(desk: Desk) -> Any:
        raise LookupError("nothing here")

    with pytest.raises(MixtureError, match="The finish 'own' failed: LookupError: nothing here") as caught:
        asked(Own(broken), ["a", "b"])
    assert isinstance(caught.value.causes[0], LookupError)


def test_a_way_that_cannot_be_recorded_is_refused_at_once() -> None:
    class Untold(Own):
        def described(self) -> dict[str, Any]:
            return {"name": self.name, "how": object()}

    with pytest.raises(ConfigurationError, match="finish must be one of"):
        finish_named(Untold(_asked_plainly))


@pytest.mark.parametrize("finish", ["vote", "rank"])
def test_choosing_among_no_proposals_is_refused(finish: str) -> None:
    with pytest.raises(ConfigurationError, match="chooses among proposals, and num_layers=1 has none"):
        MixtureOfAgentsPack(ScriptedLLM("x"), num_layers=1, finish=finish)


def test_a_weight_for_nobody_is_refused_with_those_who_vote() -> None:
    with pytest.raises(ConfigurationError, match="weights name 'typo', but in the last round there are 'p1'"):
        asked(Vote("number", weights={"typo": 5.0}), ["1", "2"])


def test_the_response_says_how_it_was_really_finished() -> None:
    broken = [ScriptedLLM(lambda _: ValueError("down"), model=f"p{n}") for n in range(2)]
    response = MixtureOfAgentsPack(ScriptedLLM("alone"), broken, 2, finish="vote").run("Why?")
    assert response.finish == "synthesize"


def test_no_more_than_two_stand_ins_are_asked_to_choose() -> None:
    models = [ScriptedLLM("no idea", model=f"p{n}") for n in range(10)]
    response = MixtureOfAgentsPack(ScriptedLLM("no idea", model="g"), models, 2, finish="rank").run("Why?")
    assert len(response.missing) == 3
    assert sum(len(model.calls) for model in models) == 10 + 2


def test_a_class_whose_tools_cannot_be_prepared_is_asked_in_words() -> None:
    class NoTools(RefusesTools):
        def __init__(self, script: str) -> None:
            super().__init__(script)

        def _prepare_chat_with_tools(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            raise NotImplementedError("not in this version")

    assert asked("rank", ["first", "second"], NoTools("Draft 2 is best.")).text == "second"
