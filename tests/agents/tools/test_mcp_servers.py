"""MCP tools: a real server's tools become bounded ones, and its failures become words."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from llama_index.packs.mixture_of_agents.agents.tools.mcp_servers import mcp_tools
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError

SERVER = [sys.executable, str(Path(__file__).with_name("small_mcp_server.py"))]
needs_mcp = pytest.mark.skipif(find_spec("llama_index.tools") is None, reason="needs llama-index-tools-mcp")


@needs_mcp
async def test_a_servers_tools_are_bounded_tools() -> None:
    tools = {tool.metadata.name: tool for tool in await mcp_tools(SERVER, seconds=30, most_characters=100)}
    assert sorted(map(str, tools)) == ["add", "fail", "long_answer"]
    assert set(tools["add"].metadata.get_parameters_dict()["properties"]) == {"first", "second"}
    assert (await tools["add"].acall(first=2, second=3)).content == "the sum is 5"
    failed = await tools["fail"].acall()
    assert failed.is_error
    assert "Error executing tool fail" in failed.content
    long = await tools["long_answer"].acall(size=5000)
    assert "the first 100 of 5000 characters" in long.content


@needs_mcp
async def test_a_server_that_hangs_is_left_at_the_deadline() -> None:
    (tool,) = await mcp_tools(SERVER, only=["long_answer"], seconds=30)
    tool.seconds = 0.5
    output = await tool.acall(size=1, seconds=60)
    assert output.is_error
    assert "within 0.5 seconds" in output.content


@needs_mcp
async def test_a_tool_the_server_lacks_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no tool subtract; it has: add, fail, long_answer"):
        await mcp_tools(SERVER, only=["subtract"])


@needs_mcp
@pytest.mark.parametrize("server", [["/nowhere/at-all"], [sys.executable, "-c", "raise SystemExit(1)"]])
async def test_a_server_that_does_not_run_is_refused(server: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await mcp_tools(server, seconds=5)


def lying(mode: str) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("lying_mcp_server.py")), mode]


@needs_mcp
async def test_what_a_server_says_of_a_tool_is_cut_and_orders_in_it_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tool,) = await mcp_tools(lying("flood"), seconds=10)
    assert len(tool.metadata.description or "") < 2_100
    assert "tells to ignore instructions" in caplog.text
    answer = await tool.acall(question="x")
    assert answer.is_error
    assert "TaskGroup" not in answer.content


@needs_mcp
async def test_a_server_of_too_many_tools_is_asked_for_by_name() -> None:
    with pytest.raises(ConfigurationError, match="has 500 tools; name those you want"):
        await mcp_tools(lying("many"), seconds=10)
    assert len(await mcp_tools(lying("many"), only=["t3", "t7"], seconds=10)) == 2


@needs_mcp
async def test_a_schema_that_cannot_be_read_costs_only_its_own_tool() -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await mcp_tools(lying("schema"), seconds=10)
    (tool,) = await mcp_tools(lying("schema"), only=["ask"], seconds=10)
    assert tool.metadata.name == "ask"


@needs_mcp
async def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no model can call"):
        await mcp_tools(lying("name"), seconds=10)


@pytest.mark.parametrize("server", [[], "", [""], [3]])
async def test_what_is_no_server_is_refused(server: object) -> None:
    with pytest.raises(ConfigurationError, match="a URL or the words"):
        await mcp_tools(server)  # type: ignore[arg-type]


async def test_without_the_integration_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[mcp\]"):
        await mcp_tools(SERVER)
