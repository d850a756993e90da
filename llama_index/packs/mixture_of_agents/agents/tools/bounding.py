"""A tool held to bounds: it answers in time, in few enough characters, and never raises.

What goes wrong is said to the model in words, as an error it can act on: a tool that raised, one that was
still busy at its deadline, and an answer that was cut. A blocking tool runs in a thread of its own and is
left behind at the deadline; an async tool is cancelled. Which tools there are is not known here.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import TextBlock
from llama_index.core.tools import AsyncBaseTool, BaseTool, FunctionTool, ToolOutput
from llama_index.core.tools.types import BaseToolAsyncAdapter
from workflows.runtime.types.results import WaitingForEvent

from llama_index.packs.mixture_of_agents import checks
from llama_index.packs.mixture_of_agents.calls.threads import in_thread, run_blocking
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_logger = logging.getLogger(__name__)

SECONDS = 30.0
MOST_CHARACTERS = 20_000
MOST_BYTES = 5_000_000
"""Of a picture or another block that is no text."""
_GRACE = 3.0
"""Seconds a cancelled tool has to close what it opened; a server's process takes two to be ended."""


class BoundedTool(FunctionTool):
    """A tool within bounds; to an agent it looks like the tool itself.

    It is a `FunctionTool` whatever it holds, because LlamaIndex's agents pass their context only to those.

    Args:
        tool: Any LlamaIndex tool.
        seconds: The longest it may take.
        most_characters: The longest text it may answer; what is over is cut, and the cut is said.

    Attributes:
        tool: What it holds.
        seconds: As given.
        most_characters: As given.
    """

    def __init__(self, tool: BaseTool, seconds: float, most_characters: int) -> None:
        super().__init__(fn=self.call, async_fn=self.acall, metadata=tool.metadata)
        self.tool = tool
        self.seconds = seconds
        self.most_characters = most_characters
        self.requires_context = isinstance(tool, FunctionTool) and tool.requires_context
        self.ctx_param_name = tool.ctx_param_name if isinstance(tool, FunctionTool) else None

    def call(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """Call it and wait; inside an event loop, this blocks the loop for at most `seconds`."""
        return run_blocking(self.acall(*args, **kwargs))

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """Call it; every outcome but a cancellation of the caller is a `ToolOutput`."""
        given = {"args": args, "kwargs": {k: v for k, v in kwargs.items() if k != self.ctx_param_name}}
        task = asyncio.ensure_future(_answer(self.tool, args, kwargs))
        try:
            if not await _within(task, self.seconds):
                said = f"{self.metadata.name} gave no answer within {self.seconds:g} seconds and was left."
                return self._failed(said, given, TimeoutError(said))
            if task.cancelled():  # not by us: a tool's own task group, or a library's timeout, did
                raise RuntimeError("the tool cancelled its own call")
            return cut(task.result(), self.most_characters)
        except WaitingForEvent:  # how a workflow's step waits for a person; not a failure
            raise
        except Exception as error:
            return self._failed(_told(error), given, error)

    def _failed(self, said: str, given: dict[str, Any], error: Exception) -> ToolOutput:
        _logger.info("tool %s failed: %s", self.metadata.name, type(error).__name__)
        output = ToolOutput(
            tool_name=str(self.metadata.name),
            content=said,
            raw_input=given,
            raw_output=said,
            is_error=True,
            exception=error,
        )
        return cut(output, self.most_characters)


def bounded(
    tool: BaseTool | Callable[..., Any], *, seconds: float = SECONDS, most_characters: int = MOST_CHARACTERS
) -> BoundedTool:
    """A tool that cannot hang, raise or flood the one who calls it.

    Args:
        tool: A LlamaIndex tool (a function, query-engine or MCP tool), or a plain function. One that is
            bounded already gets the new bounds.
        seconds: The longest a call may take. A blocking tool runs on in its thread, unheard; an async tool
            that blocks its event loop cannot be stopped by anyone.
        most_characters: Of its answer's text.

    Raises:
        ConfigurationError: It is no tool, or a bound is none.
    """
    checks.seconds("seconds", seconds)
    checks.whole_number("most_characters", most_characters, 1)
    if isinstance(tool, BoundedTool):
        tool = tool.tool
    given: object = tool
    if not isinstance(tool, BaseTool):
        if not callable(given) or isinstance(given, type):
            raise ConfigurationError(
                f"a tool must be a LlamaIndex tool or a function; found {checks.shown(tool)}"
            )
        tool = FunctionTool.from_defaults(tool)
    return BoundedTool(tool, seconds, most_characters)


def all_bounded(
    tools: Sequence[BaseTool | Callable[..., Any]],
    *,
    seconds: float = SECONDS,
    most_characters: int = MOST_CHARACTERS,
) -> list[BoundedTool]:
    """Each of several tools within the same bounds; the arguments are `bounded`'s.

    Raises:
        ConfigurationError: As `bounded`, or two tools have one name, so that a model could not choose.
    """
    held = [bounded(tool, seconds=seconds, most_characters=most_characters) for tool in tools]
    names = [tool.metadata.name for tool in held]
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"tools need names of their own; given more than once: {', '.join(twice)}")
    return held


def cut(output: ToolOutput, most_characters: int) -> ToolOutput:
    """The output with at most so many characters of text, and a note where there were more.

    The raw output goes with what was cut: it would travel in events and traces all the same.
    """
    texts = [block.text for block in output.blocks if isinstance(block, TextBlock)]
    others = [block for block in output.blocks if not isinstance(block, TextBlock)]
    small = [block for block in others if len(block.model_dump_json()) <= MOST_BYTES]
    text = "\n".join(texts)
    left_out = len(others) - len(small)
    notes = [f"({left_out} attachments left out: too large)"] if left_out else []
    if len(text) > most_characters:
        shown = text[:most_characters]
        notes.append(f"(cut here: the first {most_characters} of {len(text)} characters; ask for less)")
    elif notes:
        shown = text
    else:
        return output
    shown = "\n".join([shown, *notes])
    kept = ToolOutput(
        tool_name=output.tool_name,
        blocks=[TextBlock(text=shown), *small],
        raw_input=output.raw_input,
        raw_output=shown,
        is_error=output.is_error,
        exception=output.exception,
    )
    return kept


async def _within(task: asyncio.Task[Any], seconds: float) -> bool:
    """Whether it ended in time; else it is cancelled and may clean up for a little while.

    `asyncio.wait_for` would not tell a deadline from a `TimeoutError` that the tool raised itself.
    """
    try:
        ended, _ = await asyncio.wait({task}, timeout=seconds)
        return bool(ended)
    finally:
        if not task.done():
            task.add_done_callback(_heard)
            task.cancel()
            await asyncio.wait({task}, timeout=_GRACE)


def _heard(left: asyncio.Task[Any]) -> None:
    """Take a late outcome, or asyncio would report that nobody did."""
    if not left.cancelled():
        left.exception()


async def _answer(tool: BaseTool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ToolOutput:
    """The tool's own answer, awaited where it is async by nature, else from a thread."""
    if not _is_async(tool):
        return await in_thread(lambda: _called(tool, args, kwargs))
    try:
        return await tool.acall(*args, **kwargs)  # type: ignore[attr-defined, no-any-return]
    except (Exception, asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise _as_failure(error) from error


def _called(tool: BaseTool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ToolOutput:
    try:
        return tool(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        raise _as_failure(error) from error


def _as_failure(error: BaseException) -> Exception:
    """Asyncio lets an exit out of a task, and the loop would end; a library's panic is no `Exception`."""
    if isinstance(error, SystemExit):
        return RuntimeError(f"the tool tried to exit the process ({error.code})")
    return RuntimeError(f"the tool ended with {type(error).__name__}: {error}")


def _is_async(tool: BaseTool) -> bool:
    if isinstance(tool, FunctionTool):
        return _awaits(tool.real_fn)
    # The base class's adapter calls the blocking method in asyncio's own pool, whose threads are joined at
    # exit: a tool that hangs would hold the process.
    return isinstance(tool, AsyncBaseTool) and not isinstance(tool, BaseToolAsyncAdapter)


def _awaits(function: Callable[..., Any] | Callable[..., Awaitable[Any]]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - whether calling it gives a coroutine
    )


def _told(error: Exception) -> str:
    said = str(error).strip()
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
