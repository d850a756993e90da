"""Tools for agents: SQL, tables, charts, MCP servers, and the bounds every tool call is held to."""
