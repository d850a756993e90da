"""Agents: a planner, specialists with tools and memory, and what they may touch."""

from llama_index.packs.mixture_of_agents.agents.crew import Crew
from llama_index.packs.mixture_of_agents.agents.injection_watch import InjectionWatch
from llama_index.packs.mixture_of_agents.agents.leave import ask_by_event
from llama_index.packs.mixture_of_agents.agents.members import Member
from llama_index.packs.mixture_of_agents.agents.mixture_tool import mixture_tool
from llama_index.packs.mixture_of_agents.agents.plans import Plan, Task
from llama_index.packs.mixture_of_agents.agents.results import CrewResponse
from llama_index.packs.mixture_of_agents.agents.toolbox import ToolUse

__all__ = [
    "Crew",
    "CrewResponse",
    "InjectionWatch",
    "Member",
    "Plan",
    "Task",
    "ToolUse",
    "ask_by_event",
    "mixture_tool",
]
