"""One local model in three roles beside a model of another process, over real HTTP, in one mixture."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent
from llama_index_instrumentation import get_dispatcher

from llama_index.packs.mixture_of_agents import (
    MixtureOfAgentsPack,
    MixtureResponse,
    ProgressEvent,
    Proposer,
)
from llama_index.packs.mixture_of_agents.calls.layouts import shared_prefix_messages
from llama_index.packs.mixture_of_agents.prompts import as_reference, proposer_messages
from llama_index.packs.mixture_of_agents.reports import usage_of
from llama_index.packs.mixture_of_agents.results import Usage
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM
from tests.loopback import katan
from tests.loopback.clients import OPENAI_LIKE
from tests.sparse_moe import tiny_models

pytestmark = pytest.mark.sparse_moe
QUESTION = (
    "Why does the light of the harbour blink, and who decided how often it does? Answer in one sentence."
)
ROLES = {"keeper": "You keep the light.", "sailor": "You sail at night.", "clerk": "You keep the books."}
SERVED_ROLE = "You are a guest."
SEATS = [*ROLES, "served"]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparseMoELLM]:
    folder = tmp_path_factory.mktemp("local") / "tiny-moe"
    llm = SparseMoELLM(
        tiny_models.save(tiny_models.tiny_mixtral(window=8192), folder), temperature=0.0, max_new_tokens=24
    )
    yield llm
    llm.close()


class Heard(BaseEventHandler):
    """Every answered chat call: what was sent, and what came back."""

    calls: list[LLMChatEndEvent] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        if isinstance(event, LLMChatEndEvent):
            self.calls.append(event)

    def local(self) -> list[LLMChatEndEvent]:
        """Those of the local model: it alone says how its tokens went to experts."""
        return [call for call in self.calls if "sparse_moe" in (_raw(call) or {})]

    def served(self) -> list[LLMChatEndEvent]:
        return [call for call in self.calls if "sparse_moe" not in (_raw(call) or {})]


def _raw(call: LLMChatEndEvent) -> dict[str, Any] | None:
    return call.response.raw if call.response and isinstance(call.response.raw, dict) else None


@pytest.fixture
def heard() -> Iterator[Heard]:
    root, handler = get_dispatcher(), Heard()
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


def _pack(local: SparseMoELLM, served: str, final: str, **options: Any) -> MixtureOfAgentsPack:
    seats = [Proposer(local, name=name, role=role) for name, role in ROLES.items()]
    llm = OPENAI_LIKE.build(served, "guest", max_retries=0)
    guest = Proposer(llm, name="served", role=SERVED_ROLE, temperature=0.0)
    aggregator = OPENAI_LIKE.build(final, "final")
    return MixtureOfAgentsPack(aggregator, [*seats, guest], num_layers=3, **options)


def _read(calls: list[LLMChatEndEvent]) -> list[list[ChatMessage]]:
    return sorted((list(call.messages) for call in calls), key=repr)


def _expected(layout: Any, roles: list[str], rounds: list[list[str]], told: list[str]) -> list[Any]:
    question = [ChatMessage(content=QUESTION)]
    prompts = [layout(question, role, drafts, [], told) for drafts in rounds for role in roles]
    return sorted(prompts, key=repr)


def _check_answer(response: MixtureResponse) -> None:
    assert QUESTION in response.text
    assert response.synthesizer == "final"
    assert response.missing == []
    assert not response.degraded
    assert [(p.layer, p.proposer) for p in response.proposals] == [
        (layer, name) for layer in (1, 2) for name in SEATS
    ]
    assert all(proposal.text for proposal in response.proposals)


def _check_prompts(response: MixtureResponse, heard: Heard) -> None:
    """Three read the role last, behind all they have in common; the guest reads it first, as always."""
    drafts = [as_reference(p.text) for p in response.proposals if p.layer == 1]
    told = list(ROLES.values())
    assert _read(heard.local()) == _expected(shared_prefix_messages, told, [[], drafts], told)
    guest = [call for call in heard.served() if "You are a guest." in str(call.messages[0].content)]
    assert _read(guest) == _expected(proposer_messages, [SERVED_ROLE], [[], drafts], [SERVED_ROLE])
    assert len(heard.calls) == 4 + 4 + 1


def _check_sharing(heard: Heard) -> None:
    """In each round the first of the three computes what is common, and the others take it from there."""
    prefixes = [(_raw(call) or {})["sparse_moe"]["prefix"] for call in heard.local()]
    assert all(prefix["not_shared_because"] is None for prefix in prefixes)
    shared = sorted(prefix["shared_tokens"] for prefix in prefixes)
    # A token is a byte here, so the common part is as long as the question, or as the drafts.
    assert sum(tokens > 64 for tokens in shared) >= 4
    assert sum(tokens > 500 for tokens in shared) >= 2


def test_three_roles_here_and_one_model_elsewhere(local: SparseMoELLM, echo: str, heard: Heard) -> None:
    response = _pack(local, echo, echo).run(QUESTION)
    _check_answer(response)
    _check_prompts(response, heard)
    _check_sharing(heard)
    routed = [p.details["sparse_moe"]["layers"] for p in response.proposals if p.proposer in ROLES]
    assert len(routed) == 6
    assert all(layer["load"] for layers in routed for layer in layers)
    used = [usage_of(call.response) for call in heard.calls if call.response]
    assert response.usage == Usage.total(used)
    assert response.usage.prompt_tokens == sum(one.prompt_tokens or 0 for one in used) > 2000


@pytest.mark.timeout(120)
def test_the_served_one_is_a_real_model_too(local: SparseMoELLM, echo: str, tmp_path: Path) -> None:
    dense = tiny_models.save(tiny_models.tiny_llama(max_position_embeddings=8192), tmp_path / "tiny-llama")
    options = ("-m", str(dense), "--backend", "transformers", "--no-quantize", "--device", "cpu")
    with katan.serving(tmp_path, *options) as url:
        response = _pack(local, url, echo, max_tokens=24).run(QUESTION)
    _check_answer(response)
    said = [proposal for proposal in response.proposals if proposal.proposer == "served"]
    assert all(1 <= (proposal.usage.completion_tokens or 0) <= 24 for proposal in said)
    assert all(proposal.usage.prompt_tokens for proposal in said)


async def test_a_server_that_dies_in_the_second_round_is_named(
    local: SparseMoELLM, echo: str, tmp_path: Path
) -> None:
    with ExitStack() as server:
        # Slower than it is given time to stop, so it takes its answer of the second round along.
        url = server.enter_context(katan.serving(tmp_path, "--latency-ms", "4000"))
        pack = _pack(local, url, echo, max_retries=0)
        async for item in pack.astream(QUESTION):
            if isinstance(item, ProgressEvent) and item.kind == "asked" and item.layer == 2:
                await asyncio.to_thread(server.close)
            response = item
    assert isinstance(response, MixtureResponse)
    assert response.degraded
    assert [(gone.proposer, gone.layer, gone.status) for gone in response.missing] == [("served", 2, None)]
    assert "onnection" in response.missing[0].reason
    assert [(p.layer, p.proposer) for p in response.proposals] == [
        *((1, name) for name in SEATS),
        *((2, name) for name in ROLES),
    ]
    assert QUESTION in response.text
