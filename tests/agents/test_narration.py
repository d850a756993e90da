"""What a crew does, in lines for a terminal."""

from __future__ import annotations

from llama_index.core.agent.workflow import FunctionAgent

from llama_index.packs.mixture_of_agents.agents import Crew, Plan
from llama_index.packs.mixture_of_agents.agents.events import ReasonEvent, ResultEvent
from llama_index.packs.mixture_of_agents.agents.narration import Narrator, told
from llama_index.packs.mixture_of_agents.agents.results import TaskResult
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.agent_warnings import AGENTS_OWN
from tests.agents.crews import crew_of, followed

pytestmark = AGENTS_OWN


async def test_a_plan_is_told_once_and_again_where_somebody_changed_it() -> None:
    def without_last(plan: Plan) -> Plan:
        return plan.model_copy(update={"tasks": plan.tasks[:-1]})

    for confirm, drawn in (
        (None, ["Plan (planner, 3 tasks)"]),
        (without_last, ["(planner, 3", "(edited, 2"]),
    ):
        lines = [told(event) for event in (await followed(crew_of(confirm=confirm))).events]
        plans = [line for line in lines if " plan " in line]
        assert len(plans) == len(drawn)
        assert all(words in line for line, words in zip(plans, drawn, strict=True))


def test_what_a_result_lacks_stands_apart_from_its_time() -> None:
    result = TaskResult(task="t1", agent="data", text="north", latency_seconds=1.0, cut="all calls are used")
    assert told(ResultEvent(result=result)).endswith("in 1.0 s (all calls are used): north")


async def test_a_thought_that_comes_word_by_word_is_one_line() -> None:
    llm = ScriptedLLM("It is up, I think.", is_function_calling_model=True)
    agent = FunctionAgent(name="solo", description="looks", llm=llm, tools=[])
    events = (await followed(Crew([agent]))).events
    assert sum(isinstance(event, ReasonEvent) for event in events) > 3
    narrator = Narrator()
    lines = [line for event in events for line in narrator.lines(event)]
    thoughts = [line for line in lines if "  reason " in line]
    assert [line.split(": ", 1)[1] for line in thoughts] == ["It is up, I think."]
    assert lines.index(thoughts[0]) < next(i for i, line in enumerate(lines) if "  result " in line)
