"""What a crew took: every answer of every model, in tokens and dollars; unknown where anyone says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack, Proposer
from llama_index.packs.mixture_of_agents.agents import Crew, Member
from llama_index.packs.mixture_of_agents.reports import usage_of
from llama_index.packs.mixture_of_agents.results import Usage
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.agent_warnings import AGENTS_OWN
from tests.agents.crews import calls, crew_of, function_llm, look, member, plan_text

pytestmark = AGENTS_OWN

PRICES = {"*": {"input": 1.0, "output": 10.0}}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Usage]:
    """What each answer of a scripted model took, as the models themselves know it."""
    given: list[Usage] = []
    answer = ScriptedLLM._answer

    def remembered(self: ScriptedLLM, messages: Sequence[ChatMessage]) -> ChatResponse:
        response = answer(self, messages)
        given.append(usage_of(response))
        return response

    monkeypatch.setattr(ScriptedLLM, "_answer", remembered)
    return given


def tokens(parts: Sequence[Usage]) -> tuple[int | None, int | None]:
    whole = Usage.total(parts)
    return whole.prompt_tokens, whole.completion_tokens


def dollars(parts: Sequence[Usage]) -> float:
    read, written = tokens(parts)
    return ((read or 0) * 1.0 + (written or 0) * 10.0) / 1e6


async def test_all_who_spoke_are_counted(answers: list[Usage]) -> None:
    response = await crew_of(prices=PRICES).arun("So?")
    assert len(answers) == 5  # planner, three members, aggregator
    assert tokens([response.usage]) == tokens(answers)
    assert response.usage.cost_usd == pytest.approx(dollars(answers))
    assert not response.usage.estimated


@pytest.mark.parametrize("kind", ["functions", "react"])
async def test_each_answer_in_a_loop_of_model_and_tools_is_counted(answers: list[Usage], kind: str) -> None:
    thinks = 'Thought: look.\nAction: look\nAction Input: {"host": "WS01"}'
    says = "Thought: I can answer without using any more tools.\nAnswer: It is up."
    llm = (
        function_llm([calls("look"), calls("look", host="WS02"), "It is up."])
        if kind == "functions"
        else ScriptedLLM([thinks, thinks, says], model="logs")
    )
    response = await Crew([member("logs", llm, tools=[look])], prices=PRICES).arun("So?")
    assert len(answers) == 3
    assert tokens([response.results[0].usage]) == tokens(answers)
    assert response.usage.cost_usd == pytest.approx(dollars(answers))


async def test_a_loop_that_was_ended_is_counted_with_its_last_word(answers: list[Usage]) -> None:
    def spent_or_calls(messages: Sequence[ChatMessage]) -> ChatMessage | str:
        spent = "used all the turns" in str(messages[-1].content)
        return "It was up." if spent else calls("look")

    one = member("logs", function_llm(spent_or_calls), tools=[look], max_iterations=2)
    response = await Crew([one], prices=PRICES).arun("So?")
    assert response.results[0].cut
    assert response.text == "It was up."
    assert tokens([response.usage]) == tokens(answers)
    assert response.usage.cost_usd == pytest.approx(dollars(answers))


async def test_a_loop_that_failed_took_nobody_knows_what() -> None:
    llm = function_llm([calls("look"), RuntimeError("down")])
    response = await Crew([member("logs", llm, tools=[look])], prices=PRICES, max_retries=0).arun("So?")
    assert "down" in response.results[0].cut
    assert (response.usage.prompt_tokens, response.usage.cost_usd) == (None, None)


def solo(kind: Any, script: Any) -> Any:
    return kind(name="solo", description="does it", tools=[look], llm=function_llm(script))


async def test_of_an_agent_of_ones_own_tokens_are_known_and_no_price(answers: list[Usage]) -> None:
    agent = FunctionAgent(
        name="solo", description="does it", tools=[look], llm=function_llm([calls("look"), "Up."])
    )
    response = await Crew([agent], prices={"ScriptedLLM:*": {"input": 1.0, "output": 10.0}}).arun("So?")
    assert tokens([response.usage]) == tokens(answers)
    assert response.usage.cost_usd is None


async def test_an_agent_has_the_price_that_is_given_to_its_name(answers: list[Usage]) -> None:
    agent = FunctionAgent(
        name="solo", description="does it", tools=[look], llm=function_llm([calls("look"), "Up."])
    )
    response = await Crew([agent], prices={"solo": {"input": 1.0, "output": 10.0}}).arun("So?")
    assert response.usage.cost_usd == pytest.approx(dollars(answers))


class SilentLLM(ScriptedLLM):
    """A model whose answers say nothing of tokens."""

    def _answer(self, messages: Sequence[ChatMessage]) -> ChatResponse:
        return super()._answer(messages).model_copy(update={"raw": None})


def _silent(script: Any) -> ScriptedLLM:
    silent: Any = SilentLLM
    made: ScriptedLLM = silent(script, is_function_calling_model=True)
    return made


async def test_what_a_model_does_not_say_is_estimated_and_of_a_loop_unknown() -> None:
    estimated = await Crew([Member("logs", "reads", _silent("Up."))], prices=PRICES).arun("So?")
    assert estimated.usage.estimated
    assert estimated.usage.completion_tokens
    assert estimated.usage.cost_usd is not None
    llm = _silent([calls("look"), "Up."])
    unknown = await Crew([Member("logs", "reads", llm, tools=[look])], prices=PRICES).arun("So?")
    assert (unknown.usage.prompt_tokens, unknown.usage.cost_usd) == (None, None)


async def test_without_a_price_tokens_are_known(answers: list[Usage]) -> None:
    response = await crew_of().arun("So?")
    assert tokens([response.usage]) == tokens(answers)
    assert response.usage.cost_usd is None


async def test_a_plan_that_was_repaired_and_one_made_again_are_counted(answers: list[Usage]) -> None:
    there = [member("logs", [RuntimeError("down"), "up"]), member("intel"), member("advice")]
    plans = ["no plan", plan_text(("a", "logs", [])), plan_text(("b", "logs", []))]
    crew = crew_of(there, ScriptedLLM(plans, model="planner"), prices=PRICES, max_retries=0)
    response = await crew.arun("So?")
    assert len(answers) == 5  # three plans, one result, one answer; of the failure nobody knows
    assert response.usage.prompt_tokens is None
    known = [one.usage for one in response.results]
    assert tokens(known) == tokens([answers[3]])


@pytest.mark.parametrize("kind", [FunctionAgent, ReActAgent])
def test_an_agent_that_proposes_in_a_mixture_tells_its_tokens(answers: list[Usage], kind: Any) -> None:
    says = "Thought: I can answer without using any tools.\nAnswer: Up."
    script = [calls("look"), "Up."] if kind is FunctionAgent else [says]
    agent = solo(kind, script)
    plain, judge = (ScriptedLLM("No idea.", model=name) for name in ("plain", "judge"))
    response = MixtureOfAgentsPack(judge, [Proposer(agent, name="solo"), plain], num_layers=2).run("So?")
    assert tokens([response.usage]) == tokens(answers)
    assert response.proposals[0].usage.completion_tokens


def test_a_crew_that_proposes_tells_what_it_took_dollars_too(answers: list[Usage]) -> None:
    crew = crew_of(prices=PRICES)
    judge, other = (ScriptedLLM("No idea.", model=name) for name in ("judge", "other"))
    response = MixtureOfAgentsPack(judge, [crew.workflow, other], num_layers=2, prices=PRICES).run("So?")
    assert tokens([response.usage]) == tokens(answers)
    assert response.usage.cost_usd == pytest.approx(dollars(answers))
