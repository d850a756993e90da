"""A tiny MCP server on its standard streams, for the test of MCP tools.

Knows three tools: one that works, one that fails, one that floods or hangs.
"""

from __future__ import annotations

import asyncio

from mcp.server.mcpserver import MCPServer

server = MCPServer("small")


@server.tool()
def add(first: int, second: int) -> str:
    """Add two numbers."""
    return f"the sum is {first + second}"


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("this tool always fails")


@server.tool()
async def long_answer(size: int, seconds: float = 0.0) -> str:
    """Answer so many letters, after so many seconds."""
    await asyncio.sleep(seconds)
    return "z" * size


if __name__ == "__main__":
    server.run()
