"""A crew whose models are served: what their streams and answers took is counted, and has its price."""

from __future__ import annotations

from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.agents import Crew, Member
from llama_index.packs.mixture_of_agents.records.prices import Prices
from tests.agent_warnings import AGENTS_OWN
from tests.loopback import api_shapes
from tests.loopback.clients import MISTRALAI, OPENAI, Client
from tests.loopback.fault_server import FaultServer

pytestmark = AGENTS_OWN


def look(host: str) -> str:
    """Look at a host."""
    return f"{host} is up"


@pytest.mark.parametrize("client", [OPENAI, MISTRALAI], ids=str, indirect=True)
async def test_a_member_with_tools_is_counted_though_it_streams(client: Client, server: FaultServer) -> None:
    llm: Any = client.llms(server.url)[0]
    crew = Crew([Member("logs", "reads", llm, tools=[look])])
    response = await crew.arun("So?")
    (attempt,) = server.of()
    assert attempt.body["stream"]
    assert attempt.body["tools"]
    assert response.usage.prompt_tokens == api_shapes.PROMPT_TOKENS
    assert response.usage.completion_tokens == api_shapes.completion_tokens(response.text)
    identity = crew.members["logs"].proposer.identity
    cost = Prices().cost(identity, api_shapes.PROMPT_TOKENS, api_shapes.completion_tokens(response.text))
    assert cost
    assert response.usage.cost_usd == pytest.approx(cost)
    assert "stream_options" not in llm.additional_kwargs  # the caller's own is as it was
