"""The tools of an MCP server (Model Context Protocol), through LlamaIndex's integration, within bounds.

The integration is imported on use. A server is somebody else's program: what it answers is text like any
other, cut and timed like any other tool's. Which servers there are is not known here.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.tools import FunctionTool, ToolOutput

from llama_index.packs.mixture_of_agents.agents.tools.bounding import (
    MOST_CHARACTERS,
    SECONDS,
    BoundedTool,
    all_bounded,
)
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError, ToolError


async def mcp_tools(
    server: str | Sequence[str],
    *,
    only: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    most_characters: int = MOST_CHARACTERS,
) -> list[BoundedTool]:
    """Every tool an MCP server offers, or those named.

    Each call opens the server anew, so a call that is cut at its deadline leaves nothing behind.

    Args:
        server: A URL (http or https), or the words of a command that speaks MCP on its standard streams.
        only: Names of the tools wanted; None for all.
        environment: Variables for a command; it gets no others of this process but the few any program needs.
        seconds: The longest a call may take, the server's start included.
        most_characters: Of an answer.

    Raises:
        MissingExtraError: The integration is not installed.
        ConfigurationError: The server cannot be reached, or lacks a tool that was named.
    """
    words: list[Any] = [server] if isinstance(server, str) else list(server)
    if not words or not all(isinstance(word, str) and word for word in words):
        raise ConfigurationError(
            "an MCP server is a URL or the words of a command, such as ['uvx', 'a-server']"
        )
    client, specification = _integration()
    connection = client(words[0], args=words[1:], env=dict(environment or {}), timeout=max(1, int(seconds)))
    try:
        offered: list[FunctionTool] = await specification(connection).to_tool_list_async()
    except Exception as error:
        raise ConfigurationError(
            f"the MCP server {words[0]!r} cannot be used: {_innermost(error)}"
        ) from error
    chosen = _chosen(offered, only, words[0])
    return all_bounded([_plain(tool) for tool in chosen], seconds=seconds, most_characters=most_characters)


def _integration() -> tuple[Any, Any]:
    try:
        module = importlib.import_module("llama_index.tools.mcp")
    except ModuleNotFoundError as error:
        raise MissingExtraError("an MCP server's tools", "mcp") from error
    return module.BasicMCPClient, module.McpToolSpec


def _chosen(offered: list[FunctionTool], only: Sequence[str] | None, server: str) -> list[FunctionTool]:
    if only is None:
        return offered
    by_name = {str(tool.metadata.name): tool for tool in offered}
    if missing := [name for name in only if name not in by_name]:
        known = ", ".join(by_name) or "none"
        raise ConfigurationError(
            f"the MCP server {server!r} has no tool {', '.join(missing)}; it has: {known}"
        )
    return [by_name[name] for name in only]


def _plain(tool: FunctionTool) -> FunctionTool:
    """The tool with its answer as plain text, and the server's own errors raised."""

    async def call(**given: Any) -> str:
        output: ToolOutput = await tool.acall(**given)
        return _text(output.raw_output)

    return FunctionTool(async_fn=call, metadata=tool.metadata)


def _text(result: Any) -> str:
    parts = [_part(content) for content in getattr(result, "content", None) or []]
    said = "\n".join(parts)
    # The protocol's field is `isError`; the library has named it both ways.
    if getattr(result, "is_error", False) is True or getattr(result, "isError", False) is True:
        raise ToolError(said or "the MCP server reported an error without a word")
    structured = getattr(result, "structured_content", None) or getattr(result, "structuredContent", None)
    return said or (json.dumps(structured, default=str, ensure_ascii=False) if structured else "")


def _part(content: Any) -> str:
    text = getattr(content, "text", None)
    return text if isinstance(text, str) else f"({getattr(content, 'type', 'something')}, not shown)"


def _innermost(error: BaseException) -> BaseException:
    """Behind a group of errors, the first; task groups wrap everything."""
    inner = getattr(error, "exceptions", None)
    return _innermost(inner[0]) if inner else error
