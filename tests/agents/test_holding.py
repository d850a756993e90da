"""Words that must stand on what was found: checks, arguments that hold a model to it, and what is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from pydantic import PrivateAttr

from llama_index.packs.mixture_of_agents import ConfigurationError, MixtureError
from llama_index.packs.mixture_of_agents.agents import Crew, CrewResponse, Member, ToolUse
from llama_index.packs.mixture_of_agents.agents.memory_notebook import Notebook
from llama_index.packs.mixture_of_agents.agents.results import TaskResult
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.agent_warnings import AGENTS_OWN
from tests.agents.crews import Told, crew_of, followed, look, member, plan_text

pytestmark = AGENTS_OWN

USE = ToolUse("look", {"host": "WS01"})
FOUND = "look: WS01 is up"


class RefusedError(Exception):
    """A server's, which knows no such argument."""

    def __init__(self, status: int) -> None:
        super().__init__("unknown parameter: regex")
        self.status_code = status


class Picky(ScriptedLLM):
    """A model whose server takes no expression, or cuts what it says."""

    _status: int = PrivateAttr()
    _ending: str = PrivateAttr()

    def __init__(self, script: str, *, status: int = 0, ending: str = "stop", **settings: Any) -> None:
        super().__init__(script, **settings)
        self._status, self._ending = status, ending

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        response: ChatResponse = await super().achat(messages, **kwargs)
        if "regex" in kwargs and self._status:
            raise RefusedError(self._status)
        return response.model_copy(update={"raw": {"choices": [{"finish_reason": self._ending}]}})


def arguments(found: Sequence[Any]) -> dict[str, Any]:
    return {"regex": "WS01 is up"}


def held(llm: Any, held_to: Any = arguments, **settings: Any) -> Member:
    return member("logs", llm, tools=[look], always=[USE], held_to=held_to, **settings)


async def worded(one: Member) -> TaskResult:
    told = await followed(crew_of([one], plan_text(("t1", one.name, [])), replans=False, max_retries=0))
    (record,) = told.response.results
    return record


async def answered(writer: Any, held_to: Any = arguments, **settings: Any) -> Told:
    return await followed(crew_of(answer=writer, held_to=held_to, max_retries=0, **settings))


def why(response: CrewResponse, writer: str) -> str:
    (reason,) = [gone.reason for gone in response.missing if gone.agent == writer]
    return reason


# A call that is held is held, or its words are missing.


@pytest.mark.parametrize("status", [400, 422])
async def test_a_server_that_refuses_the_arguments_is_not_asked_without(status: int) -> None:
    llm = Picky("It was all HAL-9000.", status=status)
    record = await worded(held(llm))
    assert record.text == FOUND
    assert "not put in words: RefusedError: unknown parameter: regex" in record.cut
    assert len(llm.calls) == 1


async def test_a_server_that_refuses_the_answers_arguments_is_not_asked_without() -> None:
    llm = Picky("It was all HAL-9000.", model="writer", status=400)
    told = await answered(llm)
    assert told.response.answered_by != "writer"
    assert "HAL" not in told.response.text
    assert "unknown parameter" in why(told.response, "writer")
    assert len(llm.calls) == 1


@pytest.mark.parametrize("ending", ["length", "max_tokens", "MAX_TOKENS"])
async def test_half_a_sentence_is_no_answer_where_it_is_held(ending: str) -> None:
    record = await worded(held(Picky("WS01 is", ending=ending)))
    assert record.text == FOUND
    assert f"cut off at its longest length (finish reason {ending!r})" in record.cut
    told = await answered(Picky("WS01 is", model="writer", ending=ending))
    assert told.response.answered_by != "writer"
    assert "cut off" in why(told.response, "writer")


async def test_half_a_sentence_is_something_where_it_is_not_held() -> None:
    one = member("logs", Picky("WS01 is", ending="length"), tools=[look], always=[USE])
    assert (await worded(one)).text == "WS01 is"


@pytest.mark.parametrize("given", [None, "regex", ["regex"], 5])
async def test_what_is_no_mapping_holds_nothing_and_is_refused_by_name(given: Any) -> None:
    llm = ScriptedLLM("It was all HAL-9000.", model="logs")
    record = await worded(held(llm, lambda found: given))
    assert record.text == FOUND
    assert "held_to gave" in record.cut
    assert "should give a mapping" in record.cut
    assert llm.calls == []
    told = await answered(ScriptedLLM("HAL-9000", model="writer"), lambda found: given)
    assert "held_to gave" in why(told.response, "writer")


async def test_an_empty_mapping_says_that_there_is_nothing_to_be_held_to() -> None:
    assert (await worded(held("Freely.", lambda found: {}))).text == "Freely."


async def test_it_may_be_async() -> None:
    async def slowly(found: Sequence[Any]) -> Mapping[str, Any]:
        await asyncio.sleep(0)
        return {"regex": found[0].tool}

    llm = ScriptedLLM("look", model="logs")
    assert (await worded(held(llm, slowly))).text == "look"
    assert llm.calls[0].options["regex"] == "look"


async def test_one_that_blocks_does_not_block_the_loop() -> None:
    loop = asyncio.get_running_loop()

    def waits_for_the_loop(*given: Any) -> None:
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        assert turned.wait(5), "the loop stands still"

    def held_to(found: Sequence[Any]) -> dict[str, Any]:
        waits_for_the_loop()
        return {"regex": "Fine."}

    record = await worded(held("Fine.", held_to, check=waits_for_the_loop))
    assert (record.text, record.cut) == ("Fine.", "")
    told = await answered(ScriptedLLM("Fine.", model="writer"), held_to, check=waits_for_the_loop)
    assert told.response.answered_by == "writer"


# Checks.


async def test_a_check_may_be_async() -> None:
    async def no(text: str, sources: Sequence[str]) -> str:
        return f"{text} does not stand on {sources[0]}"

    record = await worded(member("logs", "HAL", tools=[look], always=[USE], check=no))
    assert record.text == FOUND
    assert "its words were set aside: HAL does not stand on WS01 is up" in record.cut
    told = await followed(crew_of(answer=ScriptedLLM("HAL", model="writer"), check=no))
    assert "its words were set aside: HAL does not stand" in why(told.response, "writer")


async def test_a_check_that_says_nothing_lets_words_stand() -> None:
    one = member("logs", "Fine.", tools=[look], always=[USE], check=lambda text, sources: None)
    assert (await worded(one)).text == "Fine."


@pytest.mark.parametrize("given", [True, False, 5])
async def test_a_check_that_gives_no_words_has_failed(given: Any) -> None:
    record = await worded(
        member("logs", "Fine.", tools=[look], always=[USE], check=lambda text, sources: given)
    )
    assert record.text == FOUND
    assert f"its check failed: it gave {given!r}" in record.cut


# What cannot work is refused at the door.


@pytest.mark.parametrize("name", ["check", "held_to"])
@pytest.mark.parametrize("value", [5, "grounded", {"regex": "x"}])
def test_what_is_no_function_is_refused(name: str, value: Any) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError, match=rf"the {name} of 'logs' must be a function"):
        member("logs", tools=[look], always=[USE], **settings)
    with pytest.raises(ConfigurationError, match=rf"the {name} of 'crew' must be a function"):
        crew_of(**settings)


def test_a_model_that_calls_tools_by_itself_cannot_be_held() -> None:
    calling = ScriptedLLM("x", is_function_calling_model=True)
    for settings in ({"tools": [look]}, {"tools": [look], "always": [USE], "chooses": True}):
        with pytest.raises(ConfigurationError, match=r"'logs' calls tools by itself.*always"):
            member("logs", calling, held_to=arguments, **settings)


def test_an_agent_cannot_be_held() -> None:
    agent = FunctionAgent(name="a", tools=[look], llm=ScriptedLLM("x", is_function_calling_model=True))
    with pytest.raises(ConfigurationError, match=r"'logs' is an agent.*held_to"):
        member("logs", agent, held_to=arguments)
    with pytest.raises(ConfigurationError, match=r"'a' is an agent.*held_to"):
        Crew([member("logs")], agent, held_to=arguments)


def test_one_that_looks_at_nothing_first_cannot_be_held() -> None:
    for settings in ({}, {"tools": [look], "chooses": False}):
        with pytest.raises(ConfigurationError, match=r"'logs' has held_to and no `always`"):
            member("logs", held_to=arguments, **settings)


def test_memory_and_tools_first_can_be_held(tmp_path: Path) -> None:
    notes, llm = Notebook(tmp_path / "notes.db"), ScriptedLLM("x", is_function_calling_model=True)
    assert held(llm, memory=notes).held_to is arguments


@pytest.mark.parametrize("name", ["check", "held_to"])
def test_a_crew_in_which_nobody_writes_an_answer_has_none_to_check_or_hold(name: str) -> None:
    settings: dict[str, Any] = {name: lambda *given: "never"}
    with pytest.raises(ConfigurationError, match=rf"the {name} of 'crew' is of the answer.*Member"):
        Crew([member("logs")], **settings)
    Crew([member("logs")], aggregator=ScriptedLLM("x"), **settings)


def nowhere(host: str) -> str:
    """Look where nothing is."""
    raise ValueError("no such host")


async def test_where_every_tool_failed_no_words_can_stand() -> None:
    use = ToolUse("nowhere", {"host": "x"})
    one = member("logs", "It is up.", tools=[nowhere], always=[use], check=lambda text, sources: "")
    told = await followed(crew_of([one], plan_text(("t1", "logs", [])), replans=False, max_retries=0))
    (missing,) = told.response.missing
    assert "nothing was found (" in missing.reason
    assert "no such host" in missing.reason


async def test_an_answer_that_nothing_could_check_is_not_asked_for() -> None:
    answer = ScriptedLLM("It is up.", model="aggregator")
    down = member("logs", [RuntimeError("down")])
    plan = plan_text(("t1", "logs", []))
    crew = crew_of([down], plan, answer, replans=False, max_retries=0, check=lambda text, sources: "")
    with pytest.raises(MixtureError, match="Nobody of the crew had an answer"):
        await crew.arun("So?")
    assert not answer.calls


async def test_an_answer_that_cannot_stand_gives_way_to_what_was_put_in_words() -> None:
    plain = member("intel", "Nothing is known of it.")
    found = member("logs", [RuntimeError("down")], tools=[look], always=[USE])
    plan = plan_text(("t1", "logs", []), ("t2", "intel", []))
    crew = crew_of([found, plain], plan, replans=False, max_retries=0, check=lambda text, sources: "no")
    response = await crew.arun("So?")
    assert [one.is_worded for one in response.results] == [False, True]
    assert response.text == "intel (t2):\nNothing is known of it."
