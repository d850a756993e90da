"""An agent with tools and a sparse mixture of experts propose in one mixture, and stand in one trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.tools import FunctionTool
from transformers import MixtralForCausalLM

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack, ProgressEvent, Proposer
from llama_index.packs.mixture_of_agents.records.traces.reading import open_trace
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord
from llama_index.packs.mixture_of_agents.results import MixtureResponse
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.sparse_moe.tiny_models import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the agents' own
QUESTION = "Is WS-01 up?"
USED = {"tool": "ping", "arguments": {"host": "WS-01"}, "output": "WS-01 answers", "is_error": False}


class Network:
    """Hosts that answer, and who asked for them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ping(self, host: str) -> str:
        """Ask a host whether it is there."""
        self.asked.append(host)
        return f"{host} answers"


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def local(model: MixtralForCausalLM) -> SparseMoELLM:
    return SparseMoELLM(model=model, tokenizer=tiny_tokenizer(), max_new_tokens=12, temperature=0.0)


def mixture(network: Network, local: SparseMoELLM, trace: Path) -> MixtureOfAgentsPack:
    call = ToolCallBlock(tool_call_id="1", tool_name="ping", tool_kwargs={"host": "WS-01"})
    thinking = ScriptedLLM(
        [ChatMessage(role="assistant", blocks=[call]), "It is up."], is_function_calling_model=True
    )
    agent = FunctionAgent(name="operator", tools=[FunctionTool.from_defaults(network.ping)], llm=thinking)
    proposers = [Proposer(agent, name="operator"), Proposer(local, name="experts", seed=3)]
    return MixtureOfAgentsPack(ScriptedLLM("Yes.", model="writer"), proposers, 2, trace=trace)


async def followed(pack: MixtureOfAgentsPack) -> tuple[list[ProgressEvent], MixtureResponse]:
    items = [item async for item in pack.astream(QUESTION)]
    (response,) = [item for item in items if isinstance(item, MixtureResponse)]
    return [item for item in items if isinstance(item, ProgressEvent)], response


def read_back(path: Path) -> RunRecord:
    found = open_trace(path)
    assert found.problems == []
    (run,) = found.runs
    return run


async def test_both_propose_and_each_proposal_tells_its_own(
    network: Network, local: SparseMoELLM, tmp_path: Path
) -> None:
    events, response = await followed(mixture(network, local, tmp_path / "run.jsonl"))
    agent, experts = response.proposals
    assert network.asked == ["WS-01"]
    assert [(event.kind, event.tool, event.proposer) for event in events if event.tool] == [
        ("act", "ping", "operator"),
        ("observe", "ping", "operator"),
    ]
    assert agent.text == "It is up."
    assert agent.details["tool_calls"] == [USED]
    assert "sparse_moe" not in agent.details
    layers = experts.details["sparse_moe"]["layers"]
    assert [layer["layer"] for layer in layers] == [0, 1]
    # Two experts for each token that was read or written; the last one is not read again.
    tokens = (experts.usage.prompt_tokens or 0) + (experts.usage.completion_tokens or 0) - 1
    assert [sum(layer["load"]) for layer in layers] == [2 * tokens] * 2
    assert "tool_calls" not in experts.details


async def test_one_trace_holds_the_tools_of_one_and_the_routing_of_the_other(
    network: Network, local: SparseMoELLM, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    _, response = await followed(mixture(network, local, path))
    run = read_back(path)
    assert run.run_id == response.run_id
    answered = {call.asked.proposer: call.outcome for call in run.calls}
    assert set(answered) == {"operator", "experts", "writer"}
    details = {name: getattr(outcome, "details", {}) for name, outcome in answered.items()}
    for proposal in response.proposals:
        assert details[proposal.proposer] == proposal.details
    assert details["operator"]["tool_calls"] == [USED]
    assert details["experts"]["sparse_moe"]["layers"][0]["load"]
