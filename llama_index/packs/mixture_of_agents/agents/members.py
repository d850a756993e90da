"""A member of a crew: a model or an agent with a name, skills, tools and a memory.

It describes who there is and refuses what cannot work; it does no task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.tools import BaseTool

from llama_index.packs.mixture_of_agents import checks
from llama_index.packs.mixture_of_agents.agents.holding import Check, HeldTo, refuse_no_functions
from llama_index.packs.mixture_of_agents.agents.memory_extraction import Extractor
from llama_index.packs.mixture_of_agents.agents.memory_notebook import Notebook
from llama_index.packs.mixture_of_agents.agents.results import Observation
from llama_index.packs.mixture_of_agents.agents.toolbox import ToolUse
from llama_index.packs.mixture_of_agents.agents.tools.bounding import (
    MOST_CHARACTERS,
    SECONDS,
    BoundedTool,
    bounded,
)
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import Proposer


class Member:
    """Someone to give tasks to.

    A model with tools becomes a LlamaIndex FunctionAgent where it can call functions, else a ReActAgent.
    Where `always` names tool calls, these are made first and the model words what they found; that works
    with a model too small to use tools.

    Args:
        name: What plans call it.
        skills: What it is good at, in one line; the planner chooses by it.
        llm_or_agent: A LlamaIndex LLM (a `MixtureOfAgentsLLM`, too), a workflow agent with
            `run(user_msg=...)`, or a `Proposer` with settings of its own.
        tools: What a model may use; an agent has its own.
        always: Tool calls that are made before the model says anything: `ToolUse`s, or tools' names.
        chooses: Whether the model may call tools itself; None for yes, unless `always` names some.
        role: How it works, for its system message.
        memory: What it keeps across runs: a `Notebook`. Notes that have to do with a task are given with it.
        extractor: Draws what to keep from each task and its result; None for nobody, so that only its
            `remember` tool writes.
        timeout: Seconds for one task, everything within; None for the crew's.
        max_iterations: Turns of model and tools in one task.
        max_tool_calls: Tool calls in one task.
        tool_seconds: The longest a tool may take that has no bound of its own.
        tool_characters: The longest text it may answer, likewise.
        check: Says why its words cannot stand on what its tools found and it was given, or nothing; such
            words are set aside, and what was found is the result. `grounding.grounded` is one.
        held_to: Of what the tools in `always` found: arguments for the call that words it, such as
            `{"regex": ...}` for a local model, so that it can say nothing that was not found. Where the call
            refuses them, or its answer is cut off, what was found is the result. Plain or async.
        material_characters: How much of others' results, tool output and memories it is given; the middle of
            what is longer is left out.

    Raises:
        ConfigurationError: Something cannot work.
    """

    def __init__(
        self,
        name: str,
        skills: str,
        llm_or_agent: Any,
        *,
        tools: Sequence[BaseTool | Callable[..., Any]] = (),
        always: Sequence[ToolUse | str] = (),
        chooses: bool | None = None,
        role: str | None = None,
        memory: Notebook | None = None,
        extractor: Extractor | None = None,
        timeout: float | None = None,
        max_iterations: int = 8,
        max_tool_calls: int = 16,
        tool_seconds: float = SECONDS,
        tool_characters: int = MOST_CHARACTERS,
        check: Check | None = None,
        held_to: HeldTo[Observation] | None = None,
        material_characters: int = 12_000,
    ) -> None:
        given = llm_or_agent if isinstance(llm_or_agent, Proposer) else Proposer(llm_or_agent, name=name)
        self.proposer = given.replaced(name=name)
        self.name, self.skills, self.role = name, skills, role
        self.memory, self.extractor = memory, extractor
        self.check, self.held_to = check, held_to
        self.timeout = timeout
        self.max_iterations, self.max_tool_calls = max_iterations, max_tool_calls
        self.tool_seconds, self.tool_characters = tool_seconds, tool_characters
        self.material_characters = material_characters
        self.always = [ToolUse(use) if isinstance(use, str) else use for use in always]
        self.chooses = not self.always if chooses is None else chooses
        self._check()
        self.tools = [self._bounded(tool) for tool in tools]
        self._check_tools()
        self._check_held()

    @classmethod
    def of(cls, specialist: Any, llm: Any, **settings: Any) -> Member:
        """A member from a description with `name`, `skills`, `instructions` and `tools`.

        Args:
            specialist: The description, such as `data_specialist(...)`.
            llm: The model it thinks with.
            **settings: As for a `Member`.
        """
        described = {"tools": specialist.tools, "role": specialist.instructions}
        return cls(specialist.name, specialist.skills, llm, **{**described, **settings})

    @property
    def is_llm(self) -> bool:
        """Whether it is a model; else it is an agent, which has tools and loops of its own."""
        return self.proposer.is_llm

    @property
    def tool_names(self) -> list[str]:
        """Names of the tools it was given, or that it has as an agent, as far as it shows them."""
        tools = self.tools if self.is_llm else getattr(self.proposer.model, "tools", None) or []
        return [_tool_name(tool) for tool in tools]

    @property
    def loops(self) -> bool:
        """Whether its model calls tools by itself."""
        remembers = self.memory is not None and self.is_llm and self._calls_functions()
        return self.is_llm and self.chooses and (bool(self.tools) or remembers)

    def _calls_functions(self) -> bool:
        return bool(self.proposer.model.metadata.is_function_calling_model)

    def _bounded(self, tool: BaseTool | Callable[..., Any]) -> BoundedTool:
        # One that has bounds keeps them: a tool that asks a person has time for it.
        if isinstance(tool, BoundedTool):
            return tool
        return bounded(tool, seconds=self.tool_seconds, most_characters=self.tool_characters)

    def _check(self) -> None:
        for name in ("name", "skills"):
            value = getattr(self, name)
            if value is None:
                raise ConfigurationError(f"a member of a crew needs its {name}; found None")
            checks.text(name, value)
        checks.text("role", self.role, or_empty=True)
        checks.seconds("timeout", self.timeout, none="for the crew's")
        for limit in ("max_iterations", "max_tool_calls", "material_characters"):
            checks.whole_number(limit, getattr(self, limit), 1)
        if self.memory is not None and not checks.has_methods(self.memory, "recall", "remember"):
            raise ConfigurationError(
                f"the memory of {self.name!r} must be a Notebook; found {checks.shown(self.memory)}"
            )
        refuse_no_functions(self.name, self.check, self.held_to)
        if self.extractor is not None and self.memory is None:
            raise ConfigurationError(f"{self.name!r} has an extractor and no memory to keep what it draws")

    def _check_tools(self) -> None:
        if not self.is_llm and (self.tools or self.always):
            raise ConfigurationError(
                f"{self.name!r} is an agent and has tools of its own; pass tools and always with an LLM"
            )
        names = [str(tool.metadata.name) for tool in self.tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"tools of {self.name!r} need names of their own; more than once: {', '.join(twice)}"
            )
        for use in self.always:
            named: Any = use
            found = repr(named.tool) if isinstance(named, ToolUse) else checks.shown(named)
            if not isinstance(named, ToolUse) or named.tool not in names:
                raise ConfigurationError(
                    f"always of {self.name!r} names {found}, which is none of its tools; there are: "
                    f"{', '.join(names) or 'none'}"
                )

    def _check_held(self) -> None:
        """Its words are held in the one call that follows what is always used, and in no other."""
        if self.held_to is None:
            return
        if not self.is_llm:
            raise ConfigurationError(
                f"{self.name!r} is an agent and words what it found by itself; pass held_to with an LLM"
            )
        if self.loops:
            raise ConfigurationError(
                f"{self.name!r} calls tools by itself, and what it says then cannot be held_to anything; "
                "name the calls in `always`, without chooses=True"
            )
        if not self.always:
            raise ConfigurationError(
                f"{self.name!r} has held_to and no `always`; name the calls that find what it is held to"
            )

    def __repr__(self) -> str:
        return f"Member({self.name!r})"


def _tool_name(tool: Any) -> str:
    return str(getattr(getattr(tool, "metadata", None), "name", None) or getattr(tool, "__name__", ""))


def as_members(given: Sequence[Any]) -> list[Member]:
    """Members from members, and from agents that name and describe themselves.

    Raises:
        ConfigurationError: There are none, two have one name, or something is neither.
    """
    members = [_as_member(one) for one in given]
    if not members:
        raise ConfigurationError("a crew needs at least one member; found none")
    names = [member.name for member in members]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"members of a crew need names of their own; more than once: {', '.join(twice)}"
        )
    return members


def _as_member(given: Any) -> Member:
    if isinstance(given, Member):
        return given
    name, description = getattr(given, "name", None), getattr(given, "description", None)
    if isinstance(name, str) and isinstance(description, str) and checks.has_methods(given, "run"):
        return Member(name, description, given)
    raise ConfigurationError(
        "a crew is made of Members, or of agents with a name, a description and run(); found "
        f"{checks.shown(given)}. Write Member('name', 'what it is good at', llm)."
    )
