"""The LlamaIndex agent that a model with tools becomes for a task, and how its loop ends.

A model that calls functions becomes a FunctionAgent, any other a ReActAgent. It runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.tools import BaseTool

from llama_index.packs.mixture_of_agents.agents.members import Member
from llama_index.packs.mixture_of_agents.calls.endpoint import is_async, stream_options
from llama_index.packs.mixture_of_agents.calls.retries import causes_of

_END = "max iterations"


class _Turned:
    """An agent that takes so many turns."""

    def __init__(self, agent: Any, turns: int) -> None:
        self._agent, self._turns, self.name = agent, turns, agent.name

    def run(self, **arguments: Any) -> Any:
        return self._agent.run(**arguments, max_iterations=self._turns)


def inner_agent(
    member: Member, tools: Sequence[BaseTool], system_text: Callable[[str, str, str | None], str]
) -> Any:
    """A member's model with tools, as an agent whose turns are bounded.

    Args:
        member: Whose model it is.
        tools: What it may use.
        system_text: Says who a specialist is, from its name, skills and role.
    """
    # Not at the top: it is slow to import, and not every crew has tools.
    from llama_index.core.agent.workflow import FunctionAgent, ReActAgent

    llm = member.proposer.model
    kind = FunctionAgent if llm.metadata.is_function_calling_model else ReActAgent
    # A class that has only sync methods cannot stream on the event loop.
    streams = is_async(llm, "astream_chat")
    agent = kind(
        name=member.name,
        description=member.skills,
        system_prompt=system_text(member.name, member.skills, member.role),
        tools=list(tools),
        llm=_counting(llm) if streams else llm,
        streaming=streams,
    )
    return _Turned(agent, member.max_iterations)


def _counting(llm: Any) -> Any:
    """The model, with its streams' tokens counted where that has to be asked for."""
    more = stream_options(llm)
    return llm.model_copy(update={"additional_kwargs": {**more, **llm.additional_kwargs}}) if more else llm


def reached_its_end(error: BaseException) -> bool:
    """Whether an agent was stopped because its turns were used up."""
    return any(_END in str(cause).casefold() for cause in causes_of(error))
