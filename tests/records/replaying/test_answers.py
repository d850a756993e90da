"""Keys of calls and the cache that answers by them: what is the same, what stays apart, what is shared."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import sqlite3
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole

from llama_index.packs.mixture_of_agents import ConfigurationError, MixtureOfAgentsPack, Proposal
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.errors import TraceError
from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.answer_cache import AnswerCache
from llama_index.packs.mixture_of_agents.records.replaying.answers import Answers, call_key
from llama_index.packs.mixture_of_agents.records.traces.run_records import CallRecord
from llama_index.packs.mixture_of_agents.records.traces.schema import CallAnswered, CallAsked
from llama_index.packs.mixture_of_agents.results import Missing, Usage
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

CALL = Call(
    run_id="r",
    layer=1,
    index=0,
    proposer="ann",
    messages=[ChatMessage(role=MessageRole.USER, content="Why?")],
    sampling=Sampling(temperature=0.7, seed=1),
    identity=ModelIdentity(class_name="OpenAI", model="gpt-4o"),
)
ANSWER = Proposal(proposer="ann", layer=1, text="Because.", usage=Usage(prompt_tokens=3, cost_usd=0.5))


@pytest.mark.parametrize("change", [{"layer": 2}, {"index": 5}, {"run_id": "s"}, {"stoppable": False}])
def test_places_are_not_in_a_key(change: dict[str, Any]) -> None:
    assert call_key(replace(CALL, **change)) == call_key(CALL)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "roles"},
        {"turn": 1},
        {"proposer": "bob"},
        {"identity": ModelIdentity(class_name="OpenAI", model="gpt-4o-mini")},
        {"identity": ModelIdentity(class_name="Other", model="gpt-4o")},
        {"identity": ModelIdentity(class_name="OpenAI", model="gpt-4o", settings="another server")},
        {"sampling": Sampling(temperature=0.7, seed=2)},
        {"sampling": Sampling(temperature=0.7)},
        {"sampling": Sampling(temperature=0.7, seed=1, max_tokens=9)},
        {"may_call_tools": True},
        {"messages": [ChatMessage(role=MessageRole.SYSTEM, content="Why?")]},
        {"messages": [ChatMessage(content="Why? ")]},
        {"messages": [ChatMessage(content="Why?"), ChatMessage(content="")]},
        {"messages": [ChatMessage(content="Why?", additional_kwargs={"a": 1})]},
        {"messages": [ChatMessage(content=[ImageBlock(image=b"\xff")])]},
    ],
)
def test_what_is_asked_of_whom_is_in_a_key(change: dict[str, Any]) -> None:
    assert call_key(replace(CALL, **change)) != call_key(CALL)


def test_messages_of_any_kind_have_keys() -> None:
    class Foreign:
        pass

    odd = [ChatMessage(content="\ud800\x00{}%", additional_kwargs={"own": Foreign(), "raw": b"\xff"})]
    assert call_key(replace(CALL, messages=odd)) == call_key(replace(CALL, messages=list(odd)))
    again = [ChatMessage(content="\ud800\x00{}%", additional_kwargs={"own": Foreign(), "raw": b"\xff"})]
    assert call_key(replace(CALL, messages=odd)) == call_key(replace(CALL, messages=again))


def known(layer: int, index: int, text: str) -> CallRecord:
    asked = CallAsked(
        layer=layer, index=index, proposer="ann", identity=CALL.identity, sampling=CALL.sampling
    )
    outcome = CallAnswered(layer=layer, index=index, proposer="ann", text=text)
    return CallRecord(asked, list(CALL.messages), outcome)


@given(st.sets(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1), st.integers(1, 4))
@settings(max_examples=50)
def test_of_equal_calls_the_one_in_the_same_place_or_round_answers(
    places: set[tuple[int, int]], layer: int
) -> None:
    answers = Answers([known(*place, text=str(place)) for place in places])
    found = answers.find(replace(CALL, layer=layer))
    assert isinstance(found, Proposal)
    if (layer, 0) in places:
        assert found.text == str((layer, 0))
    elif any(place[0] == layer for place in places):
        assert found.layer == layer


def test_a_call_without_outcome_answers_nothing() -> None:
    record = known(1, 0, "x")
    assert Answers([CallRecord(record.asked, record.messages)]).find(CALL) is None
    assert Answers([CallRecord(record.asked, [], record.outcome)]).find(CALL) is None


async def test_what_is_kept_comes_back_marked_as_from_the_cache(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.db")
    assert await cache.before(CALL) is None
    await cache.after(CALL, ANSWER.model_copy(update={"details": {"finish_reason": "stop"}}))
    found = await AnswerCache(tmp_path / "answers.db").before(replace(CALL, layer=3))
    assert found is not None
    assert (found.text, found.usage, found.layer) == ("Because.", ANSWER.usage, 3)
    assert found.details == {"finish_reason": "stop", "source": "cache"}


@pytest.mark.parametrize("text", ["{} %s", "NUL \x00", "half \ud800", "b" * 1_000_000])
async def test_odd_answers_come_back_as_they_were(tmp_path: Path, text: str) -> None:
    cache = AnswerCache(tmp_path / "answers.db")
    await cache.after(CALL, ANSWER.model_copy(update={"text": text}))
    found = await cache.before(CALL)
    assert found is not None
    assert found.text == text


@pytest.mark.parametrize(
    "outcome",
    [
        Missing(proposer="ann", layer=1, reason="down"),
        ANSWER.model_copy(update={"text": " "}),
        ANSWER.model_copy(update={"details": {"finish_reason": "tool_calls"}}),
    ],
)
async def test_failures_and_requests_for_tools_are_not_kept(tmp_path: Path, outcome: Any) -> None:
    cache = AnswerCache(tmp_path / "answers.db")
    await cache.after(CALL, outcome)
    assert len(cache) == 0


async def test_a_model_with_other_settings_of_its_own_is_asked(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.db")
    for answer, system in (("Ahoy.", "You are a pirate."), ("Hello.", None), ("unused", "You are a pirate.")):
        llm = ScriptedLLM(answer, system_prompt=system)
        response = await MixtureOfAgentsPack(llm, [llm], 2, policies=[cache]).arun("Greet me.")
        assert response.text == ("Ahoy." if answer == "unused" else answer)


async def test_what_an_agent_says_is_not_kept_as_its_tools_may_say_otherwise(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.db")
    agent = replace(CALL, identity=ModelIdentity(class_name="FunctionAgent", model="clerk", is_agent=True))
    await cache.after(agent, ANSWER)
    assert len(cache) == 0
    assert await cache.before(agent) is None


async def test_with_tools_offered_nothing_is_kept_and_nothing_answered(tmp_path: Path) -> None:
    cache, offered = AnswerCache(tmp_path / "answers.db"), replace(CALL, tools=["add"])
    await cache.after(offered, ANSWER)
    assert len(cache) == 0
    await cache.after(CALL, ANSWER)
    assert await cache.before(offered) is None
    assert await cache.before(CALL) is not None


def test_a_second_run_asks_nobody_and_says_the_same(tmp_path: Path) -> None:
    models = [ScriptedLLM(["one"], model="a"), ScriptedLLM(["two"], model="b")]
    judge = ScriptedLLM(["answer"], model="judge")
    pack = MixtureOfAgentsPack(judge, models, 2, policies=[AnswerCache(tmp_path / "answers.db")])
    first, second = pack.run("Why?"), pack.run("Why?")
    assert (first.text, second.text, len(judge.calls)) == ("answer", "answer", 1)
    assert [proposal.details["source"] for proposal in second.proposals] == ["cache", "cache"]
    assert second.usage == first.usage


def test_samples_of_one_model_stay_apart(tmp_path: Path) -> None:
    words = iter("abcdef")
    model = ScriptedLLM(lambda messages: next(words), model="m")
    cache = AnswerCache(tmp_path / "answers.db")
    pack = MixtureOfAgentsPack(model, [model], 2, strategy="self", nb_models_by_layer=3, policies=[cache])
    first, second = pack.run("Why?"), pack.run("Why?")
    assert {proposal.text for proposal in first.proposals} == {"a", "b", "c"}
    assert [proposal.text for proposal in second.proposals] == [proposal.text for proposal in first.proposals]


def _keep_many(path: Path, name: str) -> None:
    cache = AnswerCache(path)
    for number in range(15):
        call = replace(CALL, proposer=f"{name}{number}")
        asyncio.run(cache.after(call, ANSWER.model_copy(update={"text": call.proposer})))


async def test_processes_and_threads_share_it(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    context = multiprocessing.get_context("spawn")
    workers: list[Any] = [context.Process(target=_keep_many, args=(path, "a"))]
    workers += [threading.Thread(target=_keep_many, args=(path, name)) for name in "bc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cache = AnswerCache(path)
    assert len(cache) == 45
    found = await cache.before(replace(CALL, proposer="a14"))
    assert found is not None
    assert found.text == "a14"


async def test_a_cache_removed_while_it_is_used_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = AnswerCache(tmp_path / "answers.db")
    cache.path.unlink()
    assert (await cache.before(CALL), len(cache)) == (None, 0)
    await cache.after(CALL, ANSWER)
    assert await cache.before(CALL) is not None
    assert not caplog.records


def test_its_owner_alone_may_read_it(tmp_path: Path) -> None:
    AnswerCache(tmp_path / "new" / "answers.db")
    assert stat.S_IMODE((tmp_path / "new" / "answers.db").stat().st_mode) == 0o600


async def test_keys_in_answers_are_not_kept(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.db")
    await cache.after(CALL, ANSWER.model_copy(update={"text": "use sk-proj-Abcdef0123456789Abcdef"}))
    assert b"sk-proj" not in cache.path.read_bytes()


def test_what_is_no_cache_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("hello " * 1000)
    with pytest.raises(TraceError, match="not a database"):
        AnswerCache(text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE theirs (a)")
    database.close()
    with pytest.raises(TraceError, match="another program's"):
        AnswerCache(other)
    with pytest.raises(TraceError, match="cannot be used"):
        AnswerCache(tmp_path)
    for path in ("", None, 3):
        with pytest.raises(ConfigurationError, match="path of a file"):
            AnswerCache(path)  # type: ignore[arg-type]


def test_a_later_layout_is_refused(tmp_path: Path) -> None:
    path = AnswerCache(tmp_path / "answers.db").path
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(TraceError, match="its layout is 99"):
        AnswerCache(path)


async def test_a_cache_that_breaks_is_one_warning_and_calls_go_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = AnswerCache(tmp_path / "answers.db")
    os.truncate(cache.path, 0)
    cache.path.write_bytes(b"no database " * 1000)
    with caplog.at_level(logging.WARNING):
        assert await cache.before(CALL) is None
        await cache.after(CALL, ANSWER)
    assert ["calls go out instead" in record.getMessage() for record in caplog.records] == [True]
