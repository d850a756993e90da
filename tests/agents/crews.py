"""Crews for tests: scripted members and plans, and what a run of one said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from workflows.events import Event

from llama_index.packs.mixture_of_agents.agents import Crew, CrewResponse, Member
from llama_index.packs.mixture_of_agents.agents.events import PlanQuestionEvent
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

E = TypeVar("E", bound=Event)

SKILLS = {
    "logs": "reads Windows and Sysmon event logs",
    "intel": "looks up indicators of compromise",
    "advice": "advises on containment",
}


def plan_text(*tasks: tuple[str, str, list[str]]) -> str:
    """A plan as a planner writes it: id, agent and needs of each task."""
    listed = [
        {"id": name, "agent": agent, "instructions": f"do {name}", "needs": needs}
        for name, agent, needs in tasks
    ]
    return json.dumps({"tasks": listed})


THREE = plan_text(("t1", "logs", []), ("t2", "intel", []), ("t3", "advice", ["t1", "t2"]))


def member(name: str, script: Any = None, **settings: Any) -> Member:
    """A member whose model says what the script says; by default, who it is."""
    given = script if script is not None else f"{name} says so"
    llm = (
        given
        if not isinstance(given, (str, list)) and not callable(given)
        else ScriptedLLM(given, model=name)
    )
    return Member(name, SKILLS.get(name, f"knows {name}"), llm, **settings)


def crew_of(
    members: Sequence[Member] | None = None, plans: Any = THREE, answer: Any = "the answer", **options: Any
) -> Crew:
    """A crew of scripted models."""
    there = members or [member(name) for name in SKILLS]
    planner = plans if isinstance(plans, ScriptedLLM) else ScriptedLLM(plans, model="planner")
    aggregator = answer if isinstance(answer, ScriptedLLM) else ScriptedLLM(answer, model="aggregator")
    return Crew(there, planner, aggregator, **options)


async def followed(crew: Crew, request: str = "Is this lateral movement?", **given: Any) -> Told:
    """Everything a run of a crew said, and its response."""
    items = [item async for item in crew.astream(request, **given)]
    return Told(items)


async def put_away(crew: Crew) -> dict[str, Any]:
    """The context of a run that was left while it waits for a person."""
    handler = crew.workflow.run(request="So?")
    kept: dict[str, Any] = {}
    async for event in handler.stream_events():
        if isinstance(event, PlanQuestionEvent):
            assert handler.ctx is not None
            kept = handler.ctx.to_dict()
            break
    await handler.cancel_run()
    return kept


def look(host: str) -> str:
    """Look at a host."""
    return f"{host} is up"


def calls(name: str, number: int = 1, **arguments: Any) -> ChatMessage:
    """A message that calls a tool, so many times."""
    blocks = [
        ToolCallBlock(tool_call_id=str(n), tool_name=name, tool_kwargs=arguments or {"host": "WS01"})
        for n in range(number)
    ]
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)


def function_llm(script: Any) -> ScriptedLLM:
    """A model that calls functions."""
    return ScriptedLLM(script, model="caller", is_function_calling_model=True)


class Told:
    """What a run said, in order; the response last."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.events: list[Event] = [item for item in items if isinstance(item, Event)]
        (self.response,) = [item for item in items if isinstance(item, CrewResponse)]

    def of(self, kind: type[E]) -> list[E]:
        """Events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]
