"""The tools of an MCP server (Model Context Protocol), through LlamaIndex's integration, within bounds.

The integration is imported on use. A server is somebody else's program: what it answers is text like any
other, cut and timed like any other tool's; and what it says of its tools is read by a model as it stands, so
it is bounded, and reported where it gives orders. Which servers there are is not known here.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.tools import FunctionTool, ToolMetadata, ToolOutput

from llama_index.packs.mixture_of_agents.agents.injections import suspicions
from llama_index.packs.mixture_of_agents.agents.tools.bounding import (
    MOST_CHARACTERS,
    SECONDS,
    BoundedTool,
    all_bounded,
)
from llama_index.packs.mixture_of_agents.calls.hearing import cut
from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError, ToolError

_logger = logging.getLogger(__name__)

MOST_TOOLS = 100
"""Of one server, unless they are named: a model reads the description of each with every call."""
LONGEST_DESCRIPTION = 2_000
_LONGEST_SCHEMA = 20_000
_NAME = re.compile(r"[\w./-]{1,128}")


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
        ConfigurationError: The server cannot be reached, lacks a tool that was named, or what it says of its
            tools is too much or cannot be read.
    """
    words: list[Any] = [server] if isinstance(server, str) else list(server)
    if not words or not all(isinstance(word, str) and word for word in words):
        raise ConfigurationError(
            "an MCP server is a URL or the words of a command, such as ['uvx', 'a-server']"
        )
    client, specification = _integration()
    connection = client(words[0], args=words[1:], env=dict(environment or {}), timeout=max(1, int(seconds)))
    try:
        names = [str(tool.name) for tool in await specification(connection).fetch_tools()]
        chosen = _chosen(names, only, words[0])
        # A tool that is not wanted may have a schema that cannot be read.
        wanted = specification(connection, allowed_tools=chosen) if chosen else None
        tools: list[FunctionTool] = await wanted.to_tool_list_async() if wanted else []
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the MCP server {words[0]!r} cannot be used: {_innermost(error)}"
        ) from error
    return all_bounded([_plain(tool) for tool in tools], seconds=seconds, most_characters=most_characters)


def _integration() -> tuple[Any, Any]:
    try:
        module = importlib.import_module("llama_index.tools.mcp")
    except ModuleNotFoundError as error:
        raise MissingExtraError("an MCP server's tools", "mcp") from error
    return module.BasicMCPClient, module.McpToolSpec


def _chosen(names: Sequence[str], only: Sequence[str] | None, server: str) -> list[str]:
    if only is None and len(names) > MOST_TOOLS:
        raise ConfigurationError(
            f"the MCP server {server!r} has {len(names)} tools; name those you want in `only`, at most "
            f"{MOST_TOOLS} are taken unnamed"
        )
    if missing := [name for name in only or () if name not in names]:
        known = ", ".join(names[:MOST_TOOLS]) or "none"
        raise ConfigurationError(
            f"the MCP server {server!r} has no tool {', '.join(missing)}; it has: {known}"
        )
    return list(names if only is None else only)


def _plain(tool: FunctionTool) -> FunctionTool:
    """The tool with its answer as plain text, and the server's own errors raised in words."""

    async def call(**given: Any) -> str:
        try:
            output: ToolOutput = await tool.acall(**given)
        except Exception as error:
            inner = _innermost(error)
            raise ToolError(str(inner) or type(inner).__name__) from error
        return _text(output.raw_output)

    return FunctionTool(async_fn=call, metadata=_bounded_metadata(tool.metadata))


def _bounded_metadata(said: ToolMetadata) -> ToolMetadata:
    name, description = str(said.name), said.description or ""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"an MCP server has a tool that no model can call: its name is {shown(name)}"
        )
    if len(json.dumps(said.get_parameters_dict(), default=str)) > _LONGEST_SCHEMA:
        raise ConfigurationError(f"the arguments of the MCP tool {name!r} take too long to describe")
    for found in suspicions(
        f"{description}\n{said.get_parameters_dict()}", f"the description of MCP tool {name}"
    ):
        _logger.warning("%s", found)
    return ToolMetadata(
        name=name,
        description=cut(description, LONGEST_DESCRIPTION),
        fn_schema=said.fn_schema,
        return_direct=said.return_direct,
    )


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
