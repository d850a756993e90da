"""The tools of one agent at one task: bounded, counted, watched, and their answers fenced.

Whatever a tool does, the agent gets an answer it can read: an error in words, a cut megabyte, a refusal where
its calls are used up. What it answers is told as it happens and kept for the record as the tool said it; the
model gets it between markers. Which model uses the tools is not known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import TextBlock
from llama_index.core.tools import BaseTool, ToolOutput

from llama_index.packs.mixture_of_agents.agents.prompts import REFUSED_TOOL, fenced
from llama_index.packs.mixture_of_agents.agents.results import Observation
from llama_index.packs.mixture_of_agents.agents.tools.bounding import BoundedTool
from llama_index.packs.mixture_of_agents.calls.hearing import plain_arguments

_MOST_KEPT = 50


@dataclass(frozen=True)
class ToolUse:
    """A tool call that is made before the model says anything.

    Attributes:
        tool: The tool's name.
        arguments: What it is called with; or a function that says so, given the task's instructions.
    """

    tool: str
    arguments: Mapping[str, Any] | Callable[[str], Mapping[str, Any]] = field(default_factory=dict)

    def arguments_for(self, instructions: str) -> dict[str, Any]:
        """The arguments for a task."""
        given = self.arguments(instructions) if callable(self.arguments) else self.arguments
        return dict(given)


Acts = Callable[[str, dict[str, Any]], None]
Observes = Callable[[Observation], None]


class Toolbox:
    """An agent's tools for one task.

    Args:
        tools: The tools.
        most_calls: Calls there are for the task, all tools together.
        seconds: The longest one call may take, where a tool has no bound of its own.
        most_characters: The longest answer of a call, likewise.
        acts: Told of each call as it begins.
        observes: Told of each answer.

    Attributes:
        observations: What was answered, in order; of a great many, the first ones.
        refused: How many calls came after the last one there was.
    """

    def __init__(
        self,
        tools: Sequence[BaseTool],
        *,
        most_calls: int,
        seconds: float,
        most_characters: int,
        acts: Acts,
        observes: Observes,
    ) -> None:
        self._most_calls, self._calls = most_calls, 0
        self._acts, self._observes = acts, observes
        self.observations: list[Observation] = []
        self.refused = 0
        self.tools = [_Watched(tool, self, seconds, most_characters) for tool in tools]

    @property
    def names(self) -> list[str]:
        """The tools' names."""
        return [str(tool.metadata.name) for tool in self.tools]

    async def use(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        """Call a tool by its name; every outcome is an observation.

        Raises:
            KeyError: There is no such tool.
        """
        tool = {str(tool.metadata.name): tool for tool in self.tools}[name]
        observation, _ = await tool.observed((), dict(arguments))
        return observation

    def begin(self, tool: str, arguments: dict[str, Any]) -> str:
        """A call is about to be made; why it may not, or empty."""
        if self._calls >= self._most_calls:
            self.refused += 1
            return REFUSED_TOOL.format(most=self._most_calls)
        self._calls += 1
        self._acts(tool, arguments)
        return ""

    def note(self, observation: Observation) -> Observation:
        """Keep an answer, and tell it; give it back."""
        if len(self.observations) < _MOST_KEPT:
            self.observations.append(observation)
        self._observes(observation)
        return observation


class _Watched(BoundedTool):
    """A bounded tool whose calls a toolbox counts and keeps."""

    def __init__(self, tool: BaseTool, box: Toolbox, seconds: float, most_characters: int) -> None:
        if isinstance(tool, BoundedTool):
            super().__init__(tool.tool, tool.seconds, tool.most_characters)
        else:
            super().__init__(tool, seconds, most_characters)
        self._box = box

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """Call it, counted and kept; the model gets the answer between markers."""
        _, output = await self.observed(args, kwargs)
        return output

    async def observed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Observation, ToolOutput]:
        """Call it; the answer for the record, and the one for the model."""
        name = str(self.metadata.name)
        given = {key: value for key, value in kwargs.items() if key != self.ctx_param_name}
        arguments = plain_arguments(given)
        refusal = self._box.begin(name, arguments)
        if refusal:
            refused = Observation(tool=name, arguments=arguments, output=refusal, is_error=True)
            return refused, _refused(name, given, refusal)
        began = time.monotonic()
        output = await super().acall(*args, **kwargs)
        observation = Observation(
            tool=name,
            arguments=arguments,
            output=output.content,
            is_error=output.is_error,
            seconds=time.monotonic() - began,
        )
        # What ends the loop is the answer itself, which no model reads any more; a failure ends none.
        is_the_answer = self.metadata.return_direct and not output.is_error
        return self._box.note(observation), output if is_the_answer else _fenced(output)


def _refused(name: str, given: dict[str, Any], refusal: str) -> ToolOutput:
    return ToolOutput(tool_name=name, content=refusal, raw_input=given, raw_output=refusal, is_error=True)


def _fenced(output: ToolOutput) -> ToolOutput:
    """The same answer, its text between markers."""
    others = [block for block in output.blocks if not isinstance(block, TextBlock)]
    text = TextBlock(text=fenced([(f"output of {output.tool_name}", output.content)]))
    return ToolOutput(
        tool_name=output.tool_name,
        blocks=[text, *others],
        raw_input=output.raw_input,
        raw_output=output.raw_output,
        is_error=output.is_error,
        exception=output.exception,
    )
